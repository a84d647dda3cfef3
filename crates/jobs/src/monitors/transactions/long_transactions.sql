-- A session that is idle in its transaction counts twice: from when it went idle, and from when the transaction started.
with /* pgbosun */ sessions as (
    select state like 'idle in transaction%' as idle, state_change, xact_start,
           pg_catalog.format('process %s, %s to %s from %s (%s), %s: %s', pid, coalesce(usename, '-'),
                             coalesce(datname, '-'), coalesce(pg_catalog.host(client_addr), 'this machine'),
                             coalesce(application_name, ''), coalesce(state, 'running'), pg_catalog.left(query, 200)) as who,
           coalesce(application_name, '') as application
    from pg_catalog.pg_stat_activity
    where xact_start is not null and backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid()
)
select 'long transaction' as kind, who, application,
       extract(epoch from pg_catalog.clock_timestamp() - xact_start)::float8 as seconds
from sessions
union all
select 'idle in transaction', who, application,
       extract(epoch from pg_catalog.clock_timestamp() - state_change)::float8
from sessions
where idle
union all
select 'prepared transaction',
       pg_catalog.format('%s of %s in %s', gid, owner, database),
       '',
       extract(epoch from pg_catalog.clock_timestamp() - prepared)::float8
from pg_catalog.pg_prepared_xacts
order by 4 desc
