select datname::text
from pg_catalog.pg_database
where datallowconn and not datistemplate and pg_catalog.has_database_privilege(oid, 'connect')
order by datname
