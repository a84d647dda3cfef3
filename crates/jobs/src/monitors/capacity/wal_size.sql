select /* pgbosun */ coalesce(sum(size), 0)::bigint as bytes,
       count(*) as files,
       (select setting::bigint * 1024 * 1024 from pg_catalog.pg_settings where name = 'max_wal_size') as max_wal_size,
       (select setting::bigint * 1024 * 1024 from pg_catalog.pg_settings where name = 'wal_keep_size') as keep
from pg_catalog.pg_ls_waldir()
