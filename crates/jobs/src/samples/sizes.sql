-- The database, and its largest tables with indexes and TOAST. Sizes are not asked of what somebody has locked, whole or in
-- part: that would wait for them.
with /* pgbosun */ locked as (
    select distinct coalesce(w.oid, i.indrelid, l.relation) as oid
    from pg_catalog.pg_locks l
    join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
    left join pg_catalog.pg_index i on i.indexrelid = l.relation
    left join pg_catalog.pg_class w on w.reltoastrelid = coalesce(i.indrelid, l.relation)
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.database in (0, d.oid)
), tables as materialized (
    select pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
           coalesce(case when l.oid is null then pg_catalog.pg_total_relation_size(c.oid) end,
                    greatest(c.relpages, 0)::bigint * pg_catalog.current_setting('block_size')::bigint) as bytes
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join locked l on l.oid = c.oid
    where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
)
select array[pg_catalog.current_database()::text, ''] as key,
       array[coalesce(pg_catalog.pg_database_size(pg_catalog.current_database()), 0)]::float8[] as values
union all
(
    select array[pg_catalog.current_database()::text, name], array[bytes]::float8[]
    from tables
    order by bytes desc
    limit 200
)
