-- The data directory (null where the role may not see it), and what reading it needs.
select /* pgbosun */ (select setting from pg_catalog.pg_settings where name = 'data_directory'),
       pg_catalog.has_function_privilege('pg_catalog.pg_backup_start(text, boolean)', 'execute')
           and pg_catalog.has_function_privilege('pg_catalog.pg_backup_stop(boolean)', 'execute'),
       pg_catalog.current_setting('block_size') = '8192'
           and (select setting from pg_catalog.pg_settings where name = 'segment_size') = '131072',
       pg_catalog.current_setting('data_checksums') = 'on',
       pg_catalog.current_setting('server_version_num')::int
