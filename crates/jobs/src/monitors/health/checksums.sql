select /* pgbosun */ coalesce(datname::text, 'shared objects') as name,
       coalesce(checksum_failures, 0)::bigint as failures,
       checksum_last_failure as last
from pg_catalog.pg_stat_database
order by 1
