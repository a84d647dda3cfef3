-- What may be in the way of building an index: a base backup, which would carry all its WAL too; standbys that have not received
-- it (what they apply may be delayed on purpose), bytes; and the oldest transaction here that is older than so many seconds, or
-- prepared, which REINDEX CONCURRENTLY would wait for.
select /* pgbosun */ (select pg_catalog.count(*) from pg_catalog.pg_stat_progress_basebackup) as base_backups,
       -- Whoever decodes changes is as late as it likes.
       coalesce((select pg_catalog.max(pg_catalog.pg_current_wal_lsn() - coalesce(r.flush_lsn, r.sent_lsn))
                 from pg_catalog.pg_stat_replication r
                 where r.state in ('streaming', 'catchup')
                   and not exists (select from pg_catalog.pg_replication_slots s
                                   where s.active_pid = r.pid and s.slot_type = 'logical')), 0)::bigint as lag,
       (select who
        from (select pg_catalog.format('process %s (%s, %s), in a transaction since %s', pid, coalesce(usename, '-'),
                                       coalesce(nullif(application_name, ''), 'unnamed'), xact_start::timestamptz(0)) as who,
                     xact_start as since
              from pg_catalog.pg_stat_activity
              where datname = pg_catalog.current_database()
                and backend_type = 'client backend'
                and pid <> pg_catalog.pg_backend_pid()
              union all
              select pg_catalog.format('the prepared transaction %s of %s', gid, prepared::timestamptz(0)), prepared
              from pg_catalog.pg_prepared_xacts
              where database = pg_catalog.current_database()) t
        where since < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::bigint)
        order by since
        limit 1) as transaction
