select /* pgbosun */ pg_catalog.format('%I.%I', s.schemaname, s.relname) as name,
       s.n_mod_since_analyze as modified,
       greatest(c.reltuples, s.n_live_tup)::float8 as rows,
       coalesce(greatest(s.last_analyze, s.last_autoanalyze)::timestamptz(0)::text, 'never') as last
from pg_catalog.pg_stat_user_tables s
join pg_catalog.pg_class c on c.oid = s.relid
where c.relkind in ('r', 'm')
  and greatest(c.reltuples, s.n_live_tup) >= $1
  and (s.n_mod_since_analyze > $2 / 100 * greatest(c.reltuples, s.n_live_tup)
       or extract(epoch from pg_catalog.now() - greatest(s.last_analyze, s.last_autoanalyze)) > $3
       -- Never vacuumed or analysed; the counters alone do not show it, since they start again after a crash.
       or c.reltuples < 0)
order by s.n_mod_since_analyze desc
limit 50
