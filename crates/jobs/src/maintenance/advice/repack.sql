-- Tables that would be much smaller if they were written anew. Follows bloat_estimate.sql of the monitors.
select /* pgbosun */ name as object,
       pg_catalog.format('about %s of its %s is waste: vacuum returns space to the table, not to the disk. VACUUM FULL locks it; pg_repack and pg_squeeze do not',
                         pg_catalog.pg_size_pretty(wasted::bigint), pg_catalog.pg_size_pretty(bytes::bigint)) as reason,
       wasted as figure,
       'bytes' as unit,
       pg_catalog.format('VACUUM (FULL, ANALYZE) %s;', name) as statement
from estimated
where wasted > 0.5 * bytes and wasted >= greatest($1, 100 << 20)
order by wasted desc
limit 50
