select /* pgbosun */ datname::text as name, blks_hit as hit, blks_read as read
from pg_catalog.pg_stat_database
where datname is not null
