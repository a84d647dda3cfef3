-- Every table and materialized view with what autovacuum would decide by: its own thresholds, or the server's. VACUUM does
-- TOAST with its table, so both are in one row. Sizes are not asked of what somebody has locked: that would wait for them.
with /* pgbosun */ settings as (
    select pg_catalog.current_setting('block_size')::bigint as block,
           pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8 as dead,
           pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8 as dead_scale,
           -- autovacuum_vacuum_max_threshold came with PostgreSQL 18; -1 is none.
           coalesce(nullif(pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1),
                    'infinity') as dead_most,
           pg_catalog.current_setting('autovacuum_vacuum_insert_threshold')::float8 as inserted,
           pg_catalog.current_setting('autovacuum_vacuum_insert_scale_factor')::float8 as inserted_scale,
           pg_catalog.current_setting('autovacuum_analyze_threshold')::float8 as modified,
           pg_catalog.current_setting('autovacuum_analyze_scale_factor')::float8 as modified_scale,
           pg_catalog.current_setting('autovacuum_freeze_max_age')::float8 as xid,
           pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::float8 as multixact,
           d.oid as database,
           pg_catalog.pg_has_role(d.datdba, 'usage') as owner
    from pg_catalog.pg_database d
    where d.datname = pg_catalog.current_database()
), locked as (
    select distinct l.relation
    from pg_catalog.pg_locks l, settings
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.database in (0, settings.database)
), known as (
    select distinct schemaname, tablename
    from pg_catalog.pg_stats
), tables as (
    select c.oid,
           n.nspname = 'pg_catalog' or n.nspname = 'information_schema' as system,
           pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
           c.relkind = 'p' as partitioned,
           c.relisshared as shared,
           case when pg_catalog.current_setting('server_version_num')::int >= 170000
                then pg_catalog.has_table_privilege(c.oid, 'MAINTAIN')
                else pg_catalog.pg_has_role(c.relowner, 'usage') end
               or (s.owner and not c.relisshared) as allowed,
           case when c.oid in (select relation from locked) or t.oid in (select relation from locked)
                then c.relpages * s.block
                else coalesce(pg_catalog.pg_total_relation_size(c.oid), 0) end as bytes,
           greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0)::float8 as rows,
           greatest(t.reltuples, 0)::float8 as toast_rows,
           coalesce(pg_catalog.pg_stat_get_dead_tuples(c.oid), 0)::float8 as dead,
           coalesce(pg_catalog.pg_stat_get_dead_tuples(t.oid), 0)::float8 as toast_dead,
           coalesce(pg_catalog.pg_stat_get_ins_since_vacuum(c.oid), 0)::float8 as inserted,
           coalesce(pg_catalog.pg_stat_get_mod_since_analyze(c.oid), 0)::float8 as modified,
           greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                    pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed,
           k.tablename is not null as known,
           greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))::float8 as xid,
           greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))::float8 as multixact,
           coalesce((select pg_catalog.jsonb_object_agg(option_name, option_value)
                     from pg_catalog.pg_options_to_table(c.reloptions)), '{}') as options,
           coalesce((select pg_catalog.jsonb_object_agg(option_name, option_value)
                     from pg_catalog.pg_options_to_table(t.reloptions)), '{}') as toast_options
    from pg_catalog.pg_class c
    cross join settings s
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
    left join known k on k.schemaname = n.nspname and k.tablename = c.relname
    where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't'
      -- A materialized view without data cannot be worked on.
      and (c.relispopulated or c.relkind <> 'm')
)
select t.oid::bigint,
       t.name,
       t.system,
       t.partitioned,
       t.shared,
       t.allowed,
       t.bytes,
       t.rows,
       t.dead + t.toast_dead as dead,
       coalesce(t.dead / nullif(least(
           coalesce((t.options ->> 'autovacuum_vacuum_threshold')::float8, s.dead)
           + coalesce((t.options ->> 'autovacuum_vacuum_scale_factor')::float8, s.dead_scale) * t.rows, s.dead_most), 0), 0)
           as dead_share,
       -- As autovacuum does: the options of TOAST, else those of its table.
       coalesce(t.toast_dead / nullif(least(
           coalesce((t.options || t.toast_options ->> 'autovacuum_vacuum_threshold')::float8, s.dead)
           + coalesce((t.options || t.toast_options ->> 'autovacuum_vacuum_scale_factor')::float8, s.dead_scale)
             * t.toast_rows, s.dead_most), 0), 0) as toast_share,
       case when coalesce((t.options ->> 'autovacuum_vacuum_insert_threshold')::float8, s.inserted) < 0 then 0
            else coalesce(t.inserted / nullif(
                coalesce((t.options ->> 'autovacuum_vacuum_insert_threshold')::float8, s.inserted)
                + coalesce((t.options ->> 'autovacuum_vacuum_insert_scale_factor')::float8, s.inserted_scale) * t.rows, 0), 0)
       end as inserted_share,
       coalesce(t.modified / nullif(
           coalesce((t.options ->> 'autovacuum_analyze_threshold')::float8, s.modified)
           + coalesce((t.options ->> 'autovacuum_analyze_scale_factor')::float8, s.modified_scale) * t.rows, 0), 0)
           as modified_share,
       t.analyzed,
       -- Counters begin anew after a crash, and statistics are gone after an upgrade; of pg_statistic itself there are none.
       t.analyzed is not null or t.known or t.oid = 'pg_catalog.pg_statistic'::regclass as has_statistics,
       coalesce(t.xid, 0) as xid,
       least(coalesce((t.options ->> 'autovacuum_freeze_max_age')::float8, s.xid), s.xid) as xid_limit,
       coalesce(t.multixact, 0) as multixact,
       least(coalesce((t.options ->> 'autovacuum_multixact_freeze_max_age')::float8, s.multixact), s.multixact)
           as multixact_limit
from tables t
cross join settings s
