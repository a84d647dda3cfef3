select /* pgbosun */ pg_catalog.pg_is_in_recovery() as standby,
       case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_is_wal_replay_paused() else false end as paused,
       exists (select from pg_catalog.pg_stat_wal_receiver where status = 'streaming') as streaming,
       -- Only a role with pg_read_all_settings sees it in this view: if it is not seen, a receiver is expected.
       coalesce((select setting from pg_catalog.pg_settings where name = 'primary_conninfo'), 'unseen') <> '' as expected,
       -- If nothing was received (WAL from an archive), or all of it is replayed, an old transaction means nothing.
       case when pg_catalog.pg_is_in_recovery()
                 and pg_catalog.pg_last_wal_receive_lsn() > pg_catalog.pg_last_wal_replay_lsn()
            then coalesce(extract(epoch from pg_catalog.clock_timestamp()
                                             - pg_catalog.pg_last_xact_replay_timestamp()), 0)
            else 0
       end::float8 as behind,
       (pg_catalog.pg_last_wal_receive_lsn() - '0/0')::float8 as received,
       (pg_catalog.pg_last_wal_replay_lsn() - '0/0')::float8 as position,
       coalesce(pg_catalog.pg_last_wal_replay_lsn()::text, '-') as replayed
