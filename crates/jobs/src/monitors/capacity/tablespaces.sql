select /* pgbosun */ spcname::text as name,
       coalesce(nullif(pg_catalog.pg_tablespace_location(oid), ''), 'the data directory') as location,
       -- Tablespaces that the role may not measure are left out.
       pg_catalog.pg_tablespace_size(oid) as bytes
from pg_catalog.pg_tablespace
where case when pg_catalog.pg_has_role('pg_read_all_stats', 'usage') then true
           else pg_catalog.has_tablespace_privilege(oid, 'create') end
order by 3 desc
