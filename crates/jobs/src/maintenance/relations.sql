-- What amcheck can look through while everybody works: B-trees, tables with their TOAST, and GIN indexes where it knows them.
-- Not what somebody has locked: its size would wait for them.
select /* pgbosun */ c.oid::bigint,
       pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
       case when c.relkind = 'i' then a.amname::text else 'heap' end as kind,
       coalesce(pg_catalog.pg_relation_size(c.oid), 0) as bytes,
       pg_catalog.current_setting('block_size')::bigint as block_size
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_am a on a.oid = c.relam
left join pg_catalog.pg_index i on i.indexrelid = c.oid
where c.relpersistence = 'p'
  and ((c.relkind = 'i' and a.amname in ('btree', 'gin') and i.indisvalid and i.indisready)
       or (c.relkind in ('r', 'm', 't') and a.amname = 'heap'))
  and c.oid not in (
      select l.relation
      from pg_catalog.pg_locks l
      join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
      where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.database in (0, d.oid)
  )
order by c.oid
