select /* pgbosun */ datname::text as name,
       pg_catalog.age(datfrozenxid)::bigint as xid,
       pg_catalog.mxid_age(datminmxid)::bigint as multixact
from pg_catalog.pg_database
-- Also those that nobody may connect to: they hold the horizon back all the same. Leftovers of an interrupted DROP DATABASE do not.
where datconnlimit <> -2
order by 2 desc
