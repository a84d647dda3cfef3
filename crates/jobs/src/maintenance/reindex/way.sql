-- What may be in the way of building an index: a base backup, which would carry all its WAL too; standbys that have not received it (what they apply may
-- be delayed on purpose), bytes; and
-- the oldest transaction here that is older than so many seconds, which REINDEX CONCURRENTLY would wait for.
select (select pg_catalog.count(*) from pg_catalog.pg_stat_progress_basebackup) as base_backups,
       coalesce((select pg_catalog.max(pg_catalog.pg_current_wal_lsn() - coalesce(flush_lsn, sent_lsn))
                 from pg_catalog.pg_stat_replication where state in ('streaming', 'catchup')), 0)::bigint as lag,
       (select pg_catalog.format('process %s (%s, %s), in a transaction since %s', pid, coalesce(usename, '-'),
                                 coalesce(nullif(application_name, ''), 'unnamed'), xact_start::timestamptz(0))
        from pg_catalog.pg_stat_activity
        where datname = pg_catalog.current_database()
          and xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::bigint)
          and backend_type = 'client backend'
          and pid <> pg_catalog.pg_backend_pid()
        order by xact_start
        limit 1) as transaction
