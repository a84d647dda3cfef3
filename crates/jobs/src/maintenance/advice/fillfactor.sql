-- Tables whose updates rarely stay on their page: every index gets an entry each time.
select /* pgbosun */ pg_catalog.format('%I.%I', s.schemaname, s.relname) as object,
       pg_catalog.format('of %s updates, only %s %% stayed on their page (HOT); with free space on the page, updates leave the indexes alone unless an indexed column changes',
                         s.n_tup_upd, (100 * s.n_tup_hot_upd / s.n_tup_upd)) as reason,
       (s.n_tup_upd - s.n_tup_hot_upd)::float8 as figure,
       'updates' as unit,
       pg_catalog.format('ALTER TABLE %I.%I SET (fillfactor = 90);', s.schemaname, s.relname) as statement
from pg_catalog.pg_stat_user_tables s
join pg_catalog.pg_class c on c.oid = s.relid
where s.n_tup_upd > greatest(100000, c.reltuples) and s.n_tup_hot_upd < 0.5 * s.n_tup_upd
  and c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint >= $1
 
  and not exists (select from pg_catalog.pg_options_to_table(c.reloptions) where option_name = 'fillfactor')
  and exists (select from pg_catalog.pg_index i where i.indrelid = s.relid)
