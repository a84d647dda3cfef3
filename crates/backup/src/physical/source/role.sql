select /* pgbosun */ pg_catalog.pg_is_in_recovery(),
       not pg_catalog.pg_is_in_recovery()
       or (not pg_catalog.pg_is_wal_replay_paused()
           and exists (select from pg_catalog.pg_stat_wal_receiver where status = 'streaming')
           and (pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()
                or pg_catalog.pg_last_xact_replay_timestamp() > pg_catalog.clock_timestamp() - interval '1 minute')),
       case when pg_catalog.pg_is_in_recovery() then ''
            else pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) end
