select /* pgbosun */ datname::text as name, temp_files as files, temp_bytes as bytes
from pg_catalog.pg_stat_database
where datname is not null
