-- Rows of the journal, as a JSON array, into findings. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.findings (id, instance_id, run_id, job, cluster, object, severity, summary, meaning, advice,
    detail, seen_at)
select r.id, r.instance_id, r.run_id, r.job, r.cluster, r.object, r.severity, r.summary, r.meaning, r.advice,
    r.detail, r.seen_at
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.findings, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (id) do update
set (instance_id, run_id, job, cluster, object, severity, summary, meaning, advice, detail, seen_at)
  = (excluded.instance_id, excluded.run_id, excluded.job, excluded.cluster, excluded.object, excluded.severity,
    excluded.summary, excluded.meaning, excluded.advice, excluded.detail, excluded.seen_at)
