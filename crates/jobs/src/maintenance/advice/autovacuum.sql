-- Large tables that autovacuum leaves alone until a fifth of them is dead.
select /* pgbosun */ pg_catalog.format('%I.%I', n.nspname, c.relname) as object,
       pg_catalog.format('of its %s rows, %s may be dead before autovacuum starts',
                         c.reltuples::bigint, (c.reltuples * pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8)::bigint) as reason,
       c.reltuples::float8 as figure,
       'rows' as unit,
       pg_catalog.format('ALTER TABLE %I.%I SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.01);',
                         n.nspname, c.relname) as statement
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_stat_user_tables s on s.relid = c.oid
where c.relkind in ('r', 'm') and c.reltuples > 10000000
  and s.n_tup_upd + s.n_tup_del > 0.01 * c.reltuples
  and pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8 > 0.05
  -- PostgreSQL 18 has a limit of its own.
  and coalesce(pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1) < 0
  and c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint >= $1
 
  and not exists (select from pg_catalog.pg_options_to_table(c.reloptions) where option_name = 'autovacuum_vacuum_scale_factor')
