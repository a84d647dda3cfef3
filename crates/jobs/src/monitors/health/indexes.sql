select /* pgbosun */ pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
       pg_catalog.format('%I.%I', t.nspname, r.relname) as "table",
       pg_catalog.pg_relation_size(c.oid) as bytes
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class r on r.oid = i.indrelid
join pg_catalog.pg_namespace t on t.oid = r.relnamespace
where not (i.indisvalid and i.indisready)
  and c.relkind = 'i'
  -- An index that is being built is not valid yet; of several being built on one table, only one is named.
  and not exists (select from pg_catalog.pg_stat_progress_create_index p where p.relid = i.indrelid)
order by 1
