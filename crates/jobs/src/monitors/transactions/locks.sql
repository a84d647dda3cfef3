with /* pgbosun */ waiting as (
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
), locks as (
    select pid, granted, virtualtransaction, transactionid,
           (locktype, database, relation, page, tuple, virtualxid, transactionid, classid, objid,
            objsubid)::text as target
    from pg_catalog.pg_locks
    where exists (select from waiting where 0 = any (blocked_by))
), prepared as (
    select pg_catalog.format('prepared transaction %s of %s in %s', p.gid, p.owner, p.database) as who,
           -- All locks of a prepared transaction have the same virtualtransaction; one of them is on its own transaction ID.
           exists (select
                   from locks own
                   join locks held on held.pid is null and held.virtualtransaction = own.virtualtransaction
                   join locks wanted on wanted.target = held.target and not wanted.granted
                   where own.pid is null and own.transactionid = p.transaction) as holds
    from pg_catalog.pg_prepared_xacts p
)
select a.pid,
       coalesce(w.blocked_by, '{}') as blocked_by,
       coalesce(extract(epoch from pg_catalog.clock_timestamp() - w.since), 0)::float8 as seconds,
       pg_catalog.format('process %s, %s to %s (%s), %s: %s', a.pid, coalesce(a.usename, '-'), coalesce(a.datname, '-'),
                         coalesce(a.application_name, ''), coalesce(a.state, 'running'),
                         pg_catalog.left(a.query, 200)) as who
from concerned c
join pg_catalog.pg_stat_activity a using (pid)
left join waiting w using (pid)
union all
-- Process 0 stands for the prepared transactions that hold, or may hold, what others wait for.
select c.pid, '{}', 0,
       coalesce((select pg_catalog.string_agg(who, pg_catalog.chr(10) order by who) from prepared where holds),
                (select pg_catalog.string_agg(who, pg_catalog.chr(10) order by who) from prepared),
                'a prepared transaction')
from concerned c
where c.pid = 0
order by 1
