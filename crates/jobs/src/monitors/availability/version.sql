select /* pgbosun */ pg_catalog.current_setting('server_version_num')::int as number,
       pg_catalog.current_setting('server_version') as version
