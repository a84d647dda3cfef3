select datname::text
from pg_catalog.pg_database
-- One whose removal broke off has a limit of -2.
where datallowconn and datconnlimit <> -2 and pg_catalog.has_database_privilege(oid, 'connect')
order by datname
