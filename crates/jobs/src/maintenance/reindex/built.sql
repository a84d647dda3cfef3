-- What was just built knows its pages.
select /* pgbosun */ c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint as bytes,
       (case when a.amname = 'btree' then c.reltuples else t.reltuples end)::float8 as rows
from pg_catalog.pg_class c
join pg_catalog.pg_am a on a.oid = c.relam
join pg_catalog.pg_index i on i.indexrelid = c.oid
join pg_catalog.pg_class t on t.oid = i.indrelid
where c.oid = pg_catalog.to_regclass($1)
