select pg_catalog.pg_read_file(pg_catalog.current_setting($1))
