select /* pgbosun */ case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint end
from pg_catalog.pg_replication_slots where slot_name = $1
