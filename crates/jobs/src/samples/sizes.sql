-- The database, and its largest tables with indexes and TOAST.
select array[pg_catalog.current_database()::text, ''] as key,
       array[pg_catalog.pg_database_size(pg_catalog.current_database())]::float8[] as values
union all
(
    select array[pg_catalog.current_database()::text, pg_catalog.format('%I.%I', n.nspname, c.relname)],
           array[pg_catalog.pg_total_relation_size(c.oid)]::float8[]
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
    order by pg_catalog.pg_total_relation_size(c.oid) desc
    limit 200
)
