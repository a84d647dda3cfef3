select datname::text as name, pg_catalog.pg_database_size(oid) as bytes
from pg_catalog.pg_database
where datallowconn and pg_catalog.has_database_privilege(oid, 'connect')
order by 2 desc
