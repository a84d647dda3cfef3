-- Up to PostgreSQL 16.
select /* pgbosun */ array[]::text[] as key,
       array[((case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                    else pg_catalog.pg_current_wal_insert_lsn() end) - '0/0'),
             w.wal_records, w.wal_fpi, b.checkpoints_timed, b.checkpoints_req, b.checkpoint_write_time, b.checkpoint_sync_time, b.buffers_checkpoint,
             b.buffers_clean, 1, a.connections, a.active, a.idle, a.waiting, a.connections, a.active, a.waiting, a.longest,
             pg_catalog.current_setting('max_connections')::int]::float8[] as values
from pg_catalog.pg_stat_wal w, pg_catalog.pg_stat_bgwriter b,
    (select pg_catalog.count(*) as connections,
            pg_catalog.count(*) filter (where state = 'active' and pid <> pg_catalog.pg_backend_pid()) as active,
            pg_catalog.count(*) filter (where state like 'idle in transaction%') as idle,
            pg_catalog.count(*) filter (where wait_event_type = 'Lock') as waiting,
            coalesce(extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(xact_start)
                filter (where pid <> pg_catalog.pg_backend_pid())), 0) as longest
     from pg_catalog.pg_stat_activity where backend_type = 'client backend') a
