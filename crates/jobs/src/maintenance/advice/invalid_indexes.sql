-- Indexes that a CREATE INDEX CONCURRENTLY left unfinished: they are written at every change and never read. What REINDEX left
-- is removed by maintenance.reindex. $1 is of no use here.
select /* pgbosun */ pg_catalog.format('%I.%I', n.nspname, c.relname) as object,
       pg_catalog.format('invalid: updated with every change but never read; it takes %s',
                         pg_catalog.pg_size_pretty(c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint)) as reason,
       c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint::float8 as figure,
       'bytes' as unit,
       pg_catalog.format('REINDEX INDEX CONCURRENTLY %I.%I;  -- or: DROP INDEX CONCURRENTLY %1$I.%2$I;', n.nspname, c.relname)
           as statement
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not i.indisvalid and c.relkind = 'i' and n.nspname <> 'pg_toast' and c.relname !~ '_cc(new|old)[0-9]*$'
  and $1::bigint is not null
  and not exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
