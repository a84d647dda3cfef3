select /* pgbosun */ (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'autovacuum worker') as workers,
       pg_catalog.current_setting('autovacuum_max_workers')::bigint as maximum,
       pg_catalog.current_setting('autovacuum')::bool and pg_catalog.current_setting('track_counts')::bool as enabled,
       coalesce((
           select pg_catalog.string_agg(pg_catalog.format('since %s: %s', xact_start::timestamptz(0), query), E'\n' order by xact_start)
           from pg_catalog.pg_stat_activity
           where backend_type = 'autovacuum worker'
       ), '') as work
