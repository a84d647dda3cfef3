-- Every index with what it would take if it were built anew. The idea is that of the well-known estimates: the average width
-- of its columns (pg_stats) and the number of its entries give the leaf pages of a B-tree at its fillfactor; duplicates that
-- PostgreSQL stores once make it smaller than that, never larger. Other kinds, and those without statistics, have none.
with /* pgbosun */ stats as materialized (
    select schemaname, tablename, attname, avg_width, null_frac
    from pg_catalog.pg_stats
    where not inherited
), locked as (
    -- Sizes are not asked of what somebody has locked: that would wait for them.
    select distinct l.relation
    from pg_catalog.pg_locks l
    join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.database in (0, d.oid)
), indexes as (
    select c.oid,
           i.indkey,
           i.indrelid,
           n.nspname,
           c.relname,
           t.relname as tablename,
           tn.nspname as tableschema,
           coalesce(wn.nspname, tn.nspname) = 'pg_catalog' as system,
           -- The table whose TOAST it belongs to.
           w.relname as whole,
           wn.nspname as wholeschema,
           c.relisshared as shared,
           a.amname = 'btree' as btree,
           i.indisvalid as valid,
           i.indisexclusion as exclusion,
           case when pg_catalog.current_setting('server_version_num')::int >= 170000
                then pg_catalog.has_table_privilege(t.oid, 'MAINTAIN')
                else pg_catalog.pg_has_role(t.relowner, 'usage') end as allowed,
           not pg_catalog.has_any_column_privilege(t.oid, 'SELECT') as unseen,
           t.relpages::bigint * pg_catalog.current_setting('block_size')::bigint as table_bytes,
           case when c.oid in (select relation from locked)
                then c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint
                else coalesce(pg_catalog.pg_relation_size(c.oid), 0) end as bytes,
           -- Entries of a B-tree are rows; others count theirs in another way after a build than after a vacuum. Nobody can
           -- refresh the statistics of TOAST: what was counted since may be more.
           greatest(case when a.amname = 'btree' then c.reltuples else t.reltuples end,
                    case when w.oid is not null then pg_catalog.pg_stat_get_live_tuples(t.oid) end, 0)::float8 as rows,
           c.reltuples < 0 and w.oid is not null as uncounted,
           i.indnatts,
           i.indnkeyatts,
           coalesce((select option_value::float8 from pg_catalog.pg_options_to_table(c.reloptions)
                     where option_name = 'fillfactor'), 90) / 100 as fillfactor,
           case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end as tablespace
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_class t on t.oid = i.indrelid
    join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
    left join pg_catalog.pg_class w on t.relkind = 't' and w.reltoastrelid = t.oid
    left join pg_catalog.pg_namespace wn on wn.oid = w.relnamespace
    join pg_catalog.pg_am a on a.oid = c.relam
    join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
    where c.relkind = 'i' and c.relpersistence <> 't'
), columns as (
    -- An index upon an expression has statistics of its own; plain columns have those of their table; what
    -- catalogues and TOAST keep no statistics of are numbers.
    select x.oid,
           pg_catalog.count(a.width) as known,
           -- A name takes 64 bytes in its table, and its length in the index.
           pg_catalog.sum((1 - a.nulls) * case when ia.atttypid = 'cstring'::regtype then 16 else a.width end) as width,
           pg_catalog.max(a.nulls) > 0 as nulls
    from indexes x
    join pg_catalog.pg_attribute ia on ia.attrelid = x.oid and x.bytes >= $1
    left join pg_catalog.pg_attribute ta on ta.attrelid = x.indrelid and ta.attnum = x.indkey[ia.attnum - 1]
    left join stats s on (s.schemaname, s.tablename, s.attname) = (x.tableschema, x.tablename, ta.attname)
    left join stats e on (e.schemaname, e.tablename, e.attname) = (x.nspname, x.relname, ia.attname)
    cross join lateral (
        select coalesce(s.avg_width, e.avg_width, case when (x.system or x.whole is not null) and ia.attlen > 0 then ia.attlen end) as width,
               coalesce(s.null_frac, e.null_frac, 0) as nulls
    ) a
    group by x.oid
), entries as (
    select x.*,
           -- Line pointer; header and bitmap of nulls, and the columns, each up to a multiple of 8.
           case when x.btree and k.known >= x.indnatts and not x.uncounted
                then 4 + case when k.nulls then 16 else 8 end + 8 * pg_catalog.ceil(k.width / 8) end as entry,
           pg_catalog.current_setting('block_size')::float8 as block
    from indexes x
    left join columns k on k.oid = x.oid
)
select oid::bigint,
       indrelid::bigint as "table",
       pg_catalog.format('%I.%I', nspname, relname) as name,
       pg_catalog.format('%I.%I', tableschema, tablename) as table_name,
       case when whole is not null then pg_catalog.format('%I.%I', wholeschema, whole) end as toast_of,
       system,
       shared,
       btree,
       valid,
       exclusion,
       allowed,
       unseen and whole is null as unseen,
       table_bytes,
       bytes,
       rows,
       fillfactor,
       tablespace::bigint,
       -- The pages of leaves, a two-hundredth for those above them, and the first page.
       (block * (1 + pg_catalog.ceil(1.005 * rows * entry / ((block - 40) * fillfactor))))::float8 as estimate
from entries
where bytes >= $1
order by bytes desc, oid
