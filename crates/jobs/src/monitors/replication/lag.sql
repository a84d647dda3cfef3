with /* pgbosun */ here as (
    select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                else pg_catalog.pg_current_wal_lsn() end as lsn
), senders as (
    select coalesce(nullif(application_name, ''), 'unnamed') as name,
           coalesce(pg_catalog.host(client_addr), 'this machine') as client,
           pid,
           state,
           sync_state,
           coalesce(pg_catalog.pg_wal_lsn_diff(here.lsn, coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn)), 0)::bigint
               as bytes,
           coalesce(extract(epoch from replay_lag), 0)::float8 as seconds
    from pg_catalog.pg_stat_replication, here
    where state <> 'backup'
)
-- Standbys without a cluster_name are all called walreceiver: each is named by what distinguishes it from the others.
select name
       || case when pg_catalog.count(*) over (partition by name) > 1 then ' at ' || client else '' end
       || case when pg_catalog.count(*) over (partition by name, client) > 1 then ', process ' || pid else '' end as name,
       client,
       state,
       sync_state,
       bytes,
       seconds
from senders
order by 1
