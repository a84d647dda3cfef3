select /* pgbosun */ pg_catalog.format('%I.%I', n.nspname, c.relname) as name, pg_catalog.pg_table_size(c.oid) as bytes
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence = 'u'
order by 1
