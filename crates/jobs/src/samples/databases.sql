select /* pgbosun */ array[datname::text] as key,
       array[xact_commit, xact_rollback, blks_read, blks_hit, tup_inserted, tup_updated, tup_deleted, conflicts, deadlocks,
             temp_files, temp_bytes, blk_read_time, blk_write_time, sessions, active_time,
             idle_in_transaction_time]::float8[] as values
from pg_catalog.pg_stat_database
where datname is not null
