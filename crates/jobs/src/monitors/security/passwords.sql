select /* pgbosun */ rolname::text as name
from pg_catalog.pg_authid
where rolcanlogin and rolpassword like 'md5%'
order by 1
