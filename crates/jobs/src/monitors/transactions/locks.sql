with waiting as (
    select a.pid,
           pg_catalog.pg_blocking_pids(a.pid) as blocked_by,
           coalesce((
               select min(l.waitstart) from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted
           ), a.query_start) as since
    from pg_catalog.pg_stat_activity a
    where a.wait_event_type = 'Lock'
), concerned as (
    select pid from waiting
    union
    select pg_catalog.unnest(blocked_by) from waiting
)
select a.pid,
       coalesce(w.blocked_by, '{}') as blocked_by,
       coalesce(extract(epoch from pg_catalog.clock_timestamp() - w.since), 0)::float8 as seconds,
       pg_catalog.format('process %s, %s to %s (%s), %s: %s', a.pid, coalesce(a.usename, '-'), coalesce(a.datname, '-'),
                         coalesce(a.application_name, ''), coalesce(a.state, 'at work'),
                         pg_catalog.left(a.query, 200)) as who
from concerned c
join pg_catalog.pg_stat_activity a using (pid)
left join waiting w using (pid)
order by a.pid
