select datname::text
from pg_catalog.pg_database
-- A limit of -2 marks what an interrupted DROP DATABASE left: nobody can connect to it.
where datallowconn and datconnlimit <> -2 and pg_catalog.has_database_privilege(oid, 'connect')
order by datname
