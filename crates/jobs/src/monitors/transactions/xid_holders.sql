-- Whoever holds the horizon back: vacuum cannot freeze anything newer than the oldest of these.
select /* pgbosun */ kind, who, held::bigint
from (
    select 'session' as kind,
           pg_catalog.format('process %s, %s to %s, %s since %s: %s', pid, coalesce(usename, '-'), coalesce(datname, '-'),
                             coalesce(state, 'running'), coalesce(xact_start, backend_start)::timestamptz(0),
                             pg_catalog.left(query, 100)) as who,
           greatest(pg_catalog.age(backend_xmin), pg_catalog.age(backend_xid)) as held
    from pg_catalog.pg_stat_activity
    where backend_type <> 'walsender' and pid <> pg_catalog.pg_backend_pid()
    union all
    select 'prepared transaction',
           pg_catalog.format('%s of %s in %s since %s', gid, owner, database, prepared::timestamptz(0)),
           pg_catalog.age(transaction)
    from pg_catalog.pg_prepared_xacts
    union all
    select 'replication slot',
           pg_catalog.format('%s, %s', slot_name, case when active then 'in use' else 'in use by nobody' end),
           greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin))
    from pg_catalog.pg_replication_slots
    union all
    select 'standby',
           pg_catalog.format('%s at %s, by hot_standby_feedback', application_name,
                             coalesce(pg_catalog.host(client_addr), 'this machine')),
           pg_catalog.age(backend_xmin)
    from pg_catalog.pg_stat_replication
) holders
where held is not null
order by held desc
limit 5
