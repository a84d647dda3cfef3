-- How far the statement of one process is, whichever of these it is.
select /* pgbosun */ phase, done, total
from (
    select pid, phase, heap_blks_scanned, heap_blks_total
    from pg_catalog.pg_stat_progress_vacuum
    union all
    select pid, phase, case when blocks_total > 0 then blocks_done else tuples_done end,
           case when blocks_total > 0 then blocks_total else tuples_total end
    from pg_catalog.pg_stat_progress_create_index
    union all
    select pid, phase, sample_blks_scanned, sample_blks_total
    from pg_catalog.pg_stat_progress_analyze
) as p (pid, phase, done, total)
where pid = $1
limit 1
