select /* pgbosun */ pid from pg_catalog.pg_stat_activity
