select /* pgbosun */ pg_catalog.format('%I.%I%s', n.nspname, coalesce(o.relname, c.relname),
                         case when o.oid is not null then ' (its TOAST)' end) as name,
       pg_catalog.age(c.relfrozenxid)::bigint as xid,
       pg_catalog.mxid_age(c.relminmxid)::bigint as multixact,
       pg_catalog.pg_relation_size(c.oid) as bytes
from pg_catalog.pg_class c
left join pg_catalog.pg_class o on o.reltoastrelid = c.oid and c.relkind = 't'
join pg_catalog.pg_namespace n on n.oid = coalesce(o.relnamespace, c.relnamespace)
where c.relkind in ('r', 'm', 't')
order by greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.mxid_age(c.relminmxid)) desc
limit 10
