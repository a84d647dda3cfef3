select pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))
