-- A table with its partitions and what inherits from it: schema, name, whether rows of it are dumped, owner.
with /* pgbosun */ recursive tree (oid) as (
    select pg_catalog.to_regclass($1)::pg_catalog.oid
    union
    select i.inhrelid from pg_catalog.pg_inherits i join tree t on i.inhparent operator(pg_catalog.=) t.oid
)
select n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
    c.relkind operator(pg_catalog.=) 'r' as has_rows, pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text as owner
from tree t
join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) t.oid
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where c.relkind operator(pg_catalog.=) any (array['r', 'p', 'f', 'v', 'm', 'S']::pg_catalog."char"[])
