select /* pgbosun */ slot_name::text as name,
       slot_type as kind,
       active,
       -- Synchronized from the primary (PostgreSQL 17 and later): nobody uses it before this standby is promoted.
       pg_catalog.pg_is_in_recovery() and coalesce((pg_catalog.to_jsonb(s) ->> 'synced')::bool, false) as synced,
       coalesce(wal_status, '') as wal_status,
       coalesce(pg_catalog.pg_wal_lsn_diff(
           case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                else pg_catalog.pg_current_wal_lsn() end,
           restart_lsn), 0)::bigint as retained
from pg_catalog.pg_replication_slots s
where not temporary
order by 1
