select /* pgbosun */ array[pg_catalog.current_database()::text, pg_catalog.format('%I.%I', s.schemaname, s.relname)] as key,
       array[s.seq_scan, s.seq_tup_read, coalesce(s.idx_scan, 0), coalesce(s.idx_tup_fetch, 0), s.n_tup_ins, s.n_tup_upd,
             s.n_tup_del, s.n_tup_hot_upd,
             coalesce(i.heap_blks_read, 0) + coalesce(i.idx_blks_read, 0) + coalesce(i.toast_blks_read, 0),
             coalesce(i.heap_blks_hit, 0) + coalesce(i.idx_blks_hit, 0) + coalesce(i.toast_blks_hit, 0),
             s.n_live_tup, s.n_dead_tup]::float8[] as values
from pg_catalog.pg_stat_user_tables s
join pg_catalog.pg_statio_user_tables i on i.relid = s.relid
