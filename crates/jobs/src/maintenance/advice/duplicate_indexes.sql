-- Indexes of one table of which one does all that the other does: the same in every respect, or B-trees whose columns are the
-- first ones of another.
with /* pgbosun */ locked as (
    select l.relation
    from pg_catalog.pg_locks l
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
), indexes as (
    select i.indexrelid as oid,
           i.indrelid,
           pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
           m.amname = 'btree' as btree,
           c.relam,
           i.indisunique,
           i.indimmediate,
           coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) as nulls_not_distinct,
           i.indnkeyatts,
           i.indnatts,
           case when c.oid in (select relation from locked) then 0
                else coalesce(pg_catalog.pg_relation_size(c.oid), 0) end as bytes,
           exists (select from pg_catalog.pg_constraint x where x.conindid = c.oid) or i.indisreplident as needed,
           pg_catalog.pg_get_expr(i.indpred, i.indrelid) as predicate,
           -- What makes a column what it is, those that are only included with it.
           array(select pg_catalog.concat_ws(' ', pg_catalog.pg_get_indexdef(i.indexrelid, a.attnum, true),
                                             i.indclass[a.attnum - 1], i.indcollation[a.attnum - 1],
                                             i.indoption[a.attnum - 1], a.attoptions::text)
                 from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid order by a.attnum) as columns,
           -- Those of a B-tree say how it is kept, of others also what it can do.
           case when m.amname = 'btree' then null else c.reloptions end as options
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'i' and i.indisvalid and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (select from pg_catalog.pg_inherits h where h.inhrelid = c.oid)
), pairs as (
    select a.*, b.name as other, a.columns = b.columns and a.indnkeyatts = b.indnkeyatts as same,
           pg_catalog.row_number() over (partition by a.oid order by a.columns = b.columns desc, b.bytes desc, b.oid) as number
    from indexes a
    join indexes b on b.indrelid = a.indrelid and b.oid <> a.oid and b.relam = a.relam
        and b.predicate is not distinct from a.predicate and b.options is not distinct from a.options
    where not a.needed and a.bytes >= $1
      and case when a.columns = b.columns and a.indnkeyatts = b.indnkeyatts
               -- Of two that are the same the one that holds something stays, else the older; none that promises more goes.
               then (b.needed or b.oid < a.oid)
                    and (not a.indisunique or (b.indisunique and (b.indimmediate or not a.indimmediate)
                                               and b.nulls_not_distinct = a.nulls_not_distinct))
               else a.btree and not a.indisunique and a.indnatts = a.indnkeyatts
                    and b.columns[1:a.indnkeyatts] = a.columns and b.indnkeyatts > a.indnkeyatts
          end
)
select name as object,
       other,
       pg_catalog.format(case when same then 'duplicate of %s; it takes %s' else 'its columns are the leading columns of %s; it takes %s' end,
                         other, pg_catalog.pg_size_pretty(bytes)) as reason,
       bytes::float8 as figure,
       'bytes' as unit,
       pg_catalog.format('DROP INDEX CONCURRENTLY %s;', name) as statement
from pairs
where number = 1
