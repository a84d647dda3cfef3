select /* pgbosun */ pg_catalog.pg_postmaster_start_time() as started,
       pg_catalog.now() as now,
       pg_catalog.pg_conf_load_time() as loaded
