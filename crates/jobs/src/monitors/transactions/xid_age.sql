select /* pgbosun */ datname::text as name,
       pg_catalog.age(datfrozenxid)::bigint as xid,
       pg_catalog.mxid_age(datminmxid)::bigint as multixact
from pg_catalog.pg_database
-- Also those that nobody may connect to: they hold the horizon all the same. What an interrupted DROP DATABASE left holds nothing.
where datconnlimit <> -2
order by 2 desc
