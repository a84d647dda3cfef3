-- Rows of the journal, as a JSON array, into job_runs. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.job_runs (id, instance_id, job, kind, cluster, trigger, state, scheduled_for, started_at,
    finished_at, attempts, summary, error)
select r.id, r.instance_id, r.job, r.kind, r.cluster, r.trigger, r.state, r.scheduled_for, r.started_at,
    r.finished_at, r.attempts, r.summary, r.error
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.job_runs, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (id) do update
set (instance_id, job, kind, cluster, trigger, state, scheduled_for, started_at, finished_at, attempts, summary,
    error)
  = (excluded.instance_id, excluded.job, excluded.kind, excluded.cluster, excluded.trigger, excluded.state,
    excluded.scheduled_for, excluded.started_at, excluded.finished_at, excluded.attempts, excluded.summary,
    excluded.error)
