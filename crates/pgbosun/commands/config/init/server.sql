select pg_catalog.current_setting('archive_mode') as archive_mode,
       pg_catalog.btrim(pg_catalog.current_setting('archive_command')) as archive_command,
       case when pg_catalog.current_setting('logging_collector')::bool
            then pg_catalog.current_setting('log_directory') end as log_directory
