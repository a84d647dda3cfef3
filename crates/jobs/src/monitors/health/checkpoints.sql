select /* pgbosun */ checkpoints_timed as timed, checkpoints_req as requested
from pg_catalog.pg_stat_bgwriter
