-- The one that is asked already comes first. A limit of -2 marks what an interrupted DROP DATABASE left.
select datname::text as name, datname = pg_catalog.current_database() as own
from pg_catalog.pg_database
where datallowconn and datconnlimit <> -2 and not datistemplate and pg_catalog.has_database_privilege(oid, 'connect')
order by own desc, name
