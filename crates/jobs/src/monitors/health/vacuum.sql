with /* pgbosun */ settings as (
    select pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8 as threshold,
           pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8 as scale,
           -- autovacuum_vacuum_max_threshold came with PostgreSQL 18; -1 means no limit.
           coalesce(nullif(pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1),
                    'infinity') as most,
           pg_catalog.current_setting('autovacuum_freeze_max_age')::float8 as freeze,
           pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::float8 as multixact
), tables as (
    select c.oid,
           pg_catalog.format('%I.%I%s', n.nspname, coalesce(o.relname, c.relname),
                             case when o.oid is not null then ' (its TOAST)' end) as name,
           -- Only its own session can vacuum a temporary table, and only its age concerns everyone.
           case when c.relpersistence = 't' then 0
                else coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0)
           end::float8 as dead,
           greatest(c.reltuples, 0)::float8 as rows,
           pg_catalog.age(c.relfrozenxid)::float8 as xid,
           pg_catalog.mxid_age(c.relminmxid)::float8 as multixact,
           (select pg_catalog.jsonb_object_agg(option_name, option_value)
            -- A table's settings apply to its TOAST table too, unless that has its own.
            from pg_catalog.pg_options_to_table(coalesce(c.reloptions, o.reloptions))) as options
    from pg_catalog.pg_class c
    left join pg_catalog.pg_class o on o.reltoastrelid = c.oid and c.relkind = 't'
    join pg_catalog.pg_namespace n on n.oid = coalesce(o.relnamespace, c.relnamespace)
    where c.relkind in ('r', 'm', 't')
), judged as (
    select t.*,
           least(coalesce((t.options ->> 'autovacuum_vacuum_threshold')::float8, s.threshold)
                 + coalesce((t.options ->> 'autovacuum_vacuum_scale_factor')::float8, s.scale) * t.rows, s.most) as threshold,
           greatest(t.xid / s.freeze, t.multixact / s.multixact) as age
    from tables t, settings s
)
select name,
       dead,
       threshold,
       age,
       coalesce(greatest(pg_catalog.pg_stat_get_last_vacuum_time(oid),
                         pg_catalog.pg_stat_get_last_autovacuum_time(oid))::timestamptz(0)::text, 'never') as last
from judged
where (dead > $1 * threshold and dead > $2) or age > $3 / 100
order by greatest(dead / nullif(threshold, 0), age) desc nulls last
limit 50
