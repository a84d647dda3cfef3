-- What a dump of a schema (or of everything, without $1) holds, by owner; what belongs to an extension comes with it.
with /* pgbosun */ schemas as (
    select n.oid, n.nspowner
    from pg_catalog.pg_namespace n
    where case
        when $1::pg_catalog.text is not null then n.nspname operator(pg_catalog.=) $1
        else n.nspname operator(pg_catalog.!~) '^pg_' and n.nspname operator(pg_catalog.<>) 'information_schema'
    end
), owners (owner, class, object) as (
    select nspowner, 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid from schemas
    union all
    select relowner, 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid
    from pg_catalog.pg_class c join schemas s on s.oid operator(pg_catalog.=) c.relnamespace
    union all
    select proowner, 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid
    from pg_catalog.pg_proc p join schemas s on s.oid operator(pg_catalog.=) p.pronamespace
    union all
    select typowner, 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid
    from pg_catalog.pg_type t join schemas s on s.oid operator(pg_catalog.=) t.typnamespace
    union all
    select datdba, 'pg_catalog.pg_database'::pg_catalog.regclass, oid from pg_catalog.pg_database
    where datname operator(pg_catalog.=) pg_catalog.current_database() and $1::pg_catalog.text is null
)
select distinct r.rolname::pg_catalog.text
from owners o
join pg_catalog.pg_database d on d.datname operator(pg_catalog.=) pg_catalog.current_database()
join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) case
    when pg_catalog.pg_get_userbyid(o.owner) operator(pg_catalog.=) 'pg_database_owner' then d.datdba else o.owner
end
where not exists (
    select from pg_catalog.pg_depend e
    where e.classid operator(pg_catalog.=) o.class and e.objid operator(pg_catalog.=) o.object
        and e.deptype operator(pg_catalog.=) 'e'
)
order by 1
