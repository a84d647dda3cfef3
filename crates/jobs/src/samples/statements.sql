select /* pgbosun */ array[coalesce(d.datname::text, 'dropped'), coalesce(r.rolname::text, 'dropped'), s.queryid::text] as key,
       array[sum(s.calls), sum(s.total_exec_time), sum(s.rows), sum(s.shared_blks_hit), sum(s.shared_blks_read),
             sum(s.shared_blks_dirtied), sum(s.shared_blks_written), sum(s.temp_blks_read), sum(s.temp_blks_written),
             sum(s.wal_bytes), sum(s.total_plan_time), sum({read_time}), sum({write_time})]::float8[] as values
from {schema}.pg_stat_statements(false) s
left join pg_catalog.pg_database d on d.oid = s.dbid
left join pg_catalog.pg_roles r on r.oid = s.userid
where s.queryid is not null
group by 1
