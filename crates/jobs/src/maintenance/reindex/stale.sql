-- The table, where it changed since it was analyzed.
select /* pgbosun */ c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint as bytes
from pg_catalog.pg_class c
where c.oid = $1::bigint::oid
  and (pg_catalog.pg_stat_get_mod_since_analyze(c.oid) > 0
       or greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                   pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) is null)
