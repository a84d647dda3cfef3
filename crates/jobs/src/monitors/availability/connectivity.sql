select /* pgbosun */ pg_catalog.current_setting('server_version')
