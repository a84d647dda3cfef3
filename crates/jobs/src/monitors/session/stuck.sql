select /* pgbosun */ exists (select from pg_catalog.pg_stat_activity where pid = $1 and backend_start = $2)
