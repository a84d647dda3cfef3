select datname::text as name,
       pg_catalog.age(datfrozenxid)::bigint as xid,
       pg_catalog.mxid_age(datminmxid)::bigint as multixact
from pg_catalog.pg_database
order by 2 desc
