-- A member of a role, or a member of such a member, can act as that role.
with /* pgbosun */ recursive reached as (
    select oid as role, oid as other from pg_catalog.pg_roles where rolname !~ '^pg_'
    union
    select r.role, m.roleid
    from reached r
    join pg_catalog.pg_auth_members m on m.member = r.other
), others as (
    select r.role,
           pg_catalog.string_agg(g.rolname::text, ' or ' order by g.rolname) filter (where g.rolsuper) as super,
           pg_catalog.string_agg(g.rolname::text, ' or ' order by g.rolname)
               filter (where g.rolreplication and not g.rolsuper) as replication,
           pg_catalog.string_agg(g.rolname::text, ' or ' order by g.rolname)
               filter (where g.rolbypassrls and not g.rolsuper) as bypassrls,
           pg_catalog.string_agg(g.rolname::text, ' or ' order by g.rolname)
               filter (where g.rolcreaterole and not g.rolsuper) as createrole,
           pg_catalog.string_agg(g.rolname::text, ', ' order by g.rolname)
               filter (where g.rolname in ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                                           'pg_read_all_data', 'pg_write_all_data')) as predefined
    from reached r
    join pg_catalog.pg_roles g on g.oid = r.other
    where r.other <> r.role
    group by r.role
)
select r.rolname::text as name,
       pg_catalog.concat_ws(', ',
           case when r.rolsuper then 'superuser' else 'superuser as ' || o.super end,
           case when r.rolreplication then 'replication'
                when not r.rolsuper then 'replication as ' || o.replication end,
           case when r.rolbypassrls then 'bypassrls'
                when not r.rolsuper then 'bypassrls as ' || o.bypassrls end,
           case when r.rolcreaterole then 'createrole'
                when not r.rolsuper then 'createrole as ' || o.createrole end,
           o.predefined) as powers
from pg_catalog.pg_roles r
left join others o on o.role = r.oid
where r.rolname !~ '^pg_'
