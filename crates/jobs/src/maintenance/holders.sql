-- Whoever keeps vacuum in this database from removing dead rows and from freezing: only what counts here is named.
select /* pgbosun */ kind, who
from (
    select 'session' as kind,
           pg_catalog.format('process %s (%s, %s), %s since %s', pid, coalesce(usename, '-'),
                             coalesce(nullif(application_name, ''), 'unnamed'), coalesce(state, 'running'),
                             coalesce(xact_start, backend_start)::timestamptz(0)) as who,
           greatest(pg_catalog.age(backend_xmin), pg_catalog.age(backend_xid)) as held
    from pg_catalog.pg_stat_activity
    where backend_type <> 'walsender' and pid <> pg_catalog.pg_backend_pid() and datname = pg_catalog.current_database()
    union all
    select 'prepared transaction', pg_catalog.format('%s of %s since %s', gid, owner, prepared::timestamptz(0)),
           pg_catalog.age(transaction)
    from pg_catalog.pg_prepared_xacts
    where database = pg_catalog.current_database()
    union all
    select 'replication slot',
           pg_catalog.format('%s, %s', slot_name, case when active then 'in use' else 'not in use' end),
           greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin))
    from pg_catalog.pg_replication_slots
    union all
    select 'standby', pg_catalog.format('%s, by hot_standby_feedback', application_name), pg_catalog.age(backend_xmin)
    from pg_catalog.pg_stat_replication
) holders
where held is not null
order by held desc
limit 1
