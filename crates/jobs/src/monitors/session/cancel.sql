select /* pgbosun */ pg_catalog.pg_cancel_backend(pid)
from pg_catalog.pg_stat_activity
where pid = $1 and backend_start = $2
