select /* pgbosun */ pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_version_num')::int,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
       -- the role initdb made, whatever its name (BOOTSTRAP_SUPERUSERID)
       (select rolname::text from pg_catalog.pg_roles where oid = 10),
       pg_catalog.pg_is_in_recovery()
