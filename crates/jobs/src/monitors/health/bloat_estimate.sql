-- The space a table would take after a rewrite, from the average width of its columns (pg_stats) and its number of
-- rows, against the space it takes. The idea is that of the well-known estimates; a table that was never analysed has none.
with /* pgbosun */ settings as (
    select pg_catalog.current_setting('block_size')::float8 as block
), widths as (
    select schemaname, tablename,
           sum((1 - null_frac) * avg_width) as width,
           max(null_frac) > 0 as nulls,
           count(*) as columns
    from pg_catalog.pg_stats
    where not inherited
    group by schemaname, tablename
), tables as (
    select pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
           c.relpages * s.block as bytes,
           c.reltuples as rows,
           s.block,
           coalesce((select option_value::float8 from pg_catalog.pg_options_to_table(c.reloptions)
                     where option_name = 'fillfactor'), 100) / 100 as fillfactor,
           -- Line pointer, header and null bitmap, rounded up to a multiple of 8, and half a word per column lost to alignment.
           4 + 8 * ceil((23 + case when w.nulls then ceil(w.columns / 8.0) else 0 end) / 8.0)
             + 8 * ceil((w.width + 1.5 * w.columns) / 8.0) as row
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join widths w on w.schemaname = n.nspname and w.tablename = c.relname
    cross join settings s
    where c.relkind in ('r', 'm') and c.relpages > 1000 and c.reltuples > 0
      and not exists (select from pg_catalog.pg_attribute a
                      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                        and a.attname not in (select attname from pg_catalog.pg_stats p
                                              where p.schemaname = n.nspname and p.tablename = c.relname))
), estimated as (
    select name, bytes,
           greatest(bytes - block * ceil(rows / greatest(floor((block - 24) * fillfactor / row), 1)), 0) as wasted
    from tables
)
