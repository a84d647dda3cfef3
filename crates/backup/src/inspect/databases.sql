select datname::text, pg_catalog.pg_database_size(oid)
from pg_catalog.pg_database
where datallowconn
  and (pg_catalog.has_database_privilege(oid, 'connect') or pg_catalog.pg_has_role('pg_read_all_stats', 'usage'))
order by 1
