select /* pgbosun */ num_timed as timed, num_requested as requested
from pg_catalog.pg_stat_checkpointer
