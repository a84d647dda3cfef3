select /* pgbosun */ pid, backend_start as since
from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
