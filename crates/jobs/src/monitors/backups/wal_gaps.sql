select /* pgbosun */ coalesce(last_archived_wal, '') as last,
       pg_catalog.current_setting('archive_command') like '%pgbosun%' as ours,
       case when pg_catalog.pg_is_in_recovery() then ''
            else pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) end as timeline
from pg_catalog.pg_stat_archiver
