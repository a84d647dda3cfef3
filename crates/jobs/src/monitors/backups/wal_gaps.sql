select coalesce(last_archived_wal, '') as last,
       pg_catalog.current_setting('archive_command') like '%pgbosun%' as ours
from pg_catalog.pg_stat_archiver
