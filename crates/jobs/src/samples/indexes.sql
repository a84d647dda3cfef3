select /* pgbosun */ array[pg_catalog.current_database()::text, pg_catalog.format('%I.%I', s.schemaname, s.relname),
             s.indexrelname::text] as key,
       array[s.idx_scan, s.idx_tup_read, i.idx_blks_read, i.idx_blks_hit]::float8[] as values
from pg_catalog.pg_stat_user_indexes s
join pg_catalog.pg_statio_user_indexes i on i.indexrelid = s.indexrelid
