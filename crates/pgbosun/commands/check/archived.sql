select coalesce(last_archived_wal >= $1, false),
       coalesce(last_failed_wal >= $1 and last_failed_time > coalesce(last_archived_time, '-infinity'), false)
from pg_catalog.pg_stat_archiver
