with /* pgbosun */ used as (
    select coalesce(usename, '-') as "user", coalesce(datname, '-') as database, coalesce(state, 'unknown') as state
    from pg_catalog.pg_stat_activity
    where backend_type = 'client backend'
)
select (select count(*) from used) as used,
       pg_catalog.current_setting('max_connections')::bigint as maximum,
       -- reserved_connections came with PostgreSQL 16.
       pg_catalog.current_setting('superuser_reserved_connections')::bigint
           + coalesce(pg_catalog.current_setting('reserved_connections', true)::bigint, 0) as reserved,
       coalesce((
           select pg_catalog.string_agg(line, E'\n')
           from (
               select pg_catalog.format('%s connections of %s to %s, %s', count(*), "user", database, state) as line
               from used
               group by "user", database, state
               order by count(*) desc, "user", database, state
               limit 10
           ) most
       ), '') as most
