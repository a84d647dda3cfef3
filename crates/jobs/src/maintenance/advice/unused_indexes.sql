-- Indexes of at least this size, and how often they were read: the program remembers since when that did not change. One that
-- holds a constraint has its use without being read, and so has the index of a foreign key, for deletes in the other table.
with /* pgbosun */ locked as (
    select l.relation
    from pg_catalog.pg_locks l
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
), sized as (
    select s.*, i.indkey, i.indrelid as rel, i.indnkeyatts,
           case when s.indexrelid in (select relation from locked) then 0
                else coalesce(pg_catalog.pg_relation_size(s.indexrelid), 0) end as bytes
    from pg_catalog.pg_stat_user_indexes s
    join pg_catalog.pg_index i on i.indexrelid = s.indexrelid
    where not i.indisunique and not i.indisexclusion and not i.indisreplident and i.indisvalid
)
select s.indexrelid::bigint as oid,
       s.idx_scan as scans,
       pg_catalog.format('%I.%I', s.schemaname, s.indexrelname) as object,
       pg_catalog.format('never read; it takes %s and is updated with every change of %I.%I. Check the standbys too: they keep their own counters',
                         pg_catalog.pg_size_pretty(s.bytes), s.schemaname, s.relname) as reason,
       s.bytes::float8 as figure,
       'bytes' as unit,
       pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I;', s.schemaname, s.indexrelname) as statement
from sized s
where s.bytes >= $1
  and not exists (select from pg_catalog.pg_inherits h where h.inhrelid = s.indexrelid)
  and not exists (
      select
      from pg_catalog.pg_constraint x
      where x.contype = 'f' and x.conrelid = s.rel
        and x.conkey <@ (s.indkey::int2[])[0:pg_catalog.cardinality(x.conkey) - 1]
  )
