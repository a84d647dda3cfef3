-- Rows of the journal, as a JSON array, into jobs. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.jobs (instance_id, name, kind, cluster, schedule, time_zone, configured, paused_at, paused_by,
    pause_reason)
select r.instance_id, r.name, r.kind, r.cluster, r.schedule, r.time_zone, r.configured, r.paused_at, r.paused_by,
    r.pause_reason
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.jobs, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (instance_id, name) do update
set (kind, cluster, schedule, time_zone, configured, paused_at, paused_by, pause_reason)
  = (excluded.kind, excluded.cluster, excluded.schedule, excluded.time_zone, excluded.configured, excluded.paused_at,
    excluded.paused_by, excluded.pause_reason)
