-- The size is not asked of a table that somebody has locked: that would wait for them.
select /* pgbosun */ case when exists (select from pg_catalog.pg_locks l
                         where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
                           and l.relation in (c.oid, c.reltoastrelid))
            then c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint
            else coalesce(pg_catalog.pg_total_relation_size(c.oid), 0) end as bytes,
       (coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0)
        + coalesce(pg_catalog.pg_stat_get_dead_tuples(c.reltoastrelid), 0))::float8 as dead,
       pg_catalog.age(c.relfrozenxid)::float8 as xid,
       greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid),
                pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed,
       pg_catalog.current_setting('track_counts')::bool as counted
from pg_catalog.pg_class c
where c.oid = $1::bigint::oid
