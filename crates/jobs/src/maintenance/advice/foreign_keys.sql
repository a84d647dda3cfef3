-- Foreign keys without an index that begins with their columns: whoever deletes or changes a row they point to reads the
-- whole table.
select /* pgbosun */ pg_catalog.format('%I.%I (%s)', n.nspname, t.relname, k.columns) as object,
       pg_catalog.format('foreign key %s has no index: each delete in %s reads this whole table of about %s rows, and holds its locks meanwhile',
                         x.conname, x.confrelid::regclass, greatest(t.reltuples, 0)::bigint) as reason,
       greatest(t.reltuples, 0)::float8 as figure,
       'rows' as unit,
       case when t.relkind = 'p'
            then pg_catalog.format('CREATE INDEX ON %I.%I (%s);  -- first CONCURRENTLY on each partition: this locks all', n.nspname, t.relname, k.columns)
            else pg_catalog.format('CREATE INDEX CONCURRENTLY ON %I.%I (%s);', n.nspname, t.relname, k.columns) end as statement
from pg_catalog.pg_constraint x
join pg_catalog.pg_class t on t.oid = x.conrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
cross join lateral (
    select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by u.position) as columns
    from pg_catalog.unnest(x.conkey) with ordinality as u (number, position)
    join pg_catalog.pg_attribute a on a.attrelid = x.conrelid and a.attnum = u.number
) as k
where x.contype = 'f' and x.conparentid = 0 and t.relkind in ('r', 'p')
  and (t.relkind = 'p' or t.relpages::bigint * pg_catalog.current_setting('block_size')::bigint >= $1)
  and not exists (
      select
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam
      where i.indrelid = x.conrelid and i.indisvalid and m.amname in ('btree', 'hash')
        and i.indnkeyatts >= pg_catalog.cardinality(x.conkey)
        and (i.indkey::int2[])[0:pg_catalog.cardinality(x.conkey) - 1] @> x.conkey
        -- A row without a value points to nothing.
        and coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') ~ '^(\([^()]+ IS NOT NULL\))?$'
  )
