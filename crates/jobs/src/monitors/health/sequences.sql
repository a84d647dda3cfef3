with /* pgbosun */ used as (
    select pg_catalog.format('%I.%I', s.schemaname, s.sequencename) as name,
           s.increment_by,
           s.last_value::numeric,
           s.min_value::numeric,
           s.max_value::numeric,
           -- A column may be narrower than its sequence.
           (select case a.atttypid when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 end
            from pg_catalog.pg_depend d
            join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where d.classid = 'pg_catalog.pg_class'::regclass
              and d.refclassid = 'pg_catalog.pg_class'::regclass
              and d.objid = c.oid
              and d.deptype in ('a', 'i')
            limit 1)::numeric as "column"
    from pg_catalog.pg_sequences s
    join pg_catalog.pg_namespace n on n.nspname = s.schemaname
    join pg_catalog.pg_class c on c.relname = s.sequencename and c.relnamespace = n.oid
    where s.last_value is not null and not s.cycle
), fullest as (
    select name,
           (100 * case when increment_by > 0
                       then (last_value - min_value)
                            / greatest(least(max_value, coalesce("column", max_value)) - min_value, 1)
                       else (max_value - last_value) / greatest(max_value - min_value, 1)
                  end)::float8 as percent
    from used
    order by 2 desc
    limit 50
), unseen as (
    select pg_catalog.count(*) as unseen
    from pg_catalog.pg_class
    -- In this order: only a sequence has such a privilege to ask for.
    where case when relkind = 'S' and not pg_catalog.pg_is_other_temp_schema(relnamespace)
               then not pg_catalog.has_sequence_privilege(oid, 'select, usage') end
)
-- At least one row, for the number of sequences the role does not see.
select coalesce(name, '') as name, coalesce(percent, 0) as percent, unseen
from unseen
left join fullest on true
order by 2 desc
