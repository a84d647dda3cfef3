select /* pgbosun */ pg_catalog.current_setting('server_version') as version,
       pg_catalog.pg_postmaster_start_time() as started,
       pg_catalog.pg_is_in_recovery() as standby
