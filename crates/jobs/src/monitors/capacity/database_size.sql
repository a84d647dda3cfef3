select datname::text as name, pg_catalog.pg_database_size(oid) as bytes
from pg_catalog.pg_database
-- Of what an interrupted DROP DATABASE left (a limit of -2) the files may be gone.
where datallowconn and datconnlimit <> -2 and pg_catalog.has_database_privilege(oid, 'connect')
order by 2 desc
