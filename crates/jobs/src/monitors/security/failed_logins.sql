select /* pgbosun */ pg_catalog.current_setting('log_line_prefix') as prefix,
       pg_catalog.current_setting('lc_messages') as language,
       pg_catalog.current_setting('log_destination') as destination,
       pg_catalog.current_setting('logging_collector')::bool as collector,
       pg_catalog.current_setting('log_filename') as filename,
       pg_catalog.current_setting('cluster_name') as name
