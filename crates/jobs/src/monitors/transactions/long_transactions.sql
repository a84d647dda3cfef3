select case when state like 'idle in transaction%' then 'idle in transaction' else 'long transaction' end as kind,
       pg_catalog.format('process %s, %s to %s from %s (%s): %s', pid, coalesce(usename, '-'), coalesce(datname, '-'),
                         coalesce(pg_catalog.host(client_addr), 'this machine'), coalesce(application_name, ''),
                         pg_catalog.left(query, 200)) as who,
       coalesce(application_name, '') as application,
       extract(epoch from pg_catalog.clock_timestamp()
               - case when state like 'idle in transaction%' then state_change else xact_start end)::float8 as seconds
from pg_catalog.pg_stat_activity
where xact_start is not null and backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid()
union all
select 'prepared transaction',
       pg_catalog.format('%s of %s in %s', gid, owner, database),
       '',
       extract(epoch from pg_catalog.clock_timestamp() - prepared)::float8
from pg_catalog.pg_prepared_xacts
order by 4 desc
