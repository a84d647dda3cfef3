select datname::text, pg_catalog.pg_database_size(oid)
from pg_catalog.pg_database
-- Of what an interrupted DROP DATABASE left (a limit of -2) the files may be gone, and a size is no number then.
where datallowconn and datconnlimit <> -2
  and (pg_catalog.has_database_privilege(oid, 'connect') or pg_catalog.pg_has_role('pg_read_all_stats', 'usage'))
order by 1
