select /* pgbosun */ case when pg_catalog.pg_is_in_recovery() then (select timeline_id from pg_catalog.pg_control_checkpoint())
            else ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8))::bit(32)::int end,
       case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
            else pg_catalog.pg_current_wal_flush_lsn() end::text
