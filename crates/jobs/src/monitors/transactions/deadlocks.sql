select /* pgbosun */ datname::text as name, deadlocks
from pg_catalog.pg_stat_database
where datname is not null
