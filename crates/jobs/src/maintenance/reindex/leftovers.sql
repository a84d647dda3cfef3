-- What an interrupted REINDEX CONCURRENTLY left: an invalid index named _ccnew or _ccold, beside a valid one of the same
-- definition. $1 is a table, or 0 for all.
select /* pgbosun */ pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
       c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint as bytes,
       exists (
           select
           from pg_catalog.pg_index o
           where o.indrelid = i.indrelid and o.indexrelid <> i.indexrelid and o.indisvalid
             and (o.indkey::text, o.indclass::text, o.indcollation::text, o.indoption::text, o.indisunique)
               = (i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text, i.indisunique)
             and pg_catalog.pg_get_expr(o.indexprs, o.indrelid)
                 is not distinct from pg_catalog.pg_get_expr(i.indexprs, i.indrelid)
             and pg_catalog.pg_get_expr(o.indpred, o.indrelid)
                 is not distinct from pg_catalog.pg_get_expr(i.indpred, i.indrelid)
       ) as replaced,
       -- Whoever builds an index holds such a lock on its table from beginning to end.
       (select pg_catalog.min(l.pid)
        from pg_catalog.pg_locks l
        where l.locktype = 'relation' and l.relation = i.indrelid and l.granted
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
          and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                         'AccessExclusiveLock')) as builder
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not i.indisvalid
  and c.relkind = 'i'
  and c.relname ~ '_cc(new|old)[0-9]*$'
  and $1::bigint in (0, i.indrelid)
  and not exists (select from pg_catalog.pg_constraint x where x.conindid = c.oid)
order by 1
