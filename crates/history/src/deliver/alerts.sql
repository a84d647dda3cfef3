-- Rows of the journal, as a JSON array, into alerts. Idempotent: the newest version of a row wins.
insert into dba_ops.alerts (id, instance_id, fingerprint, job, cluster, group_name, severity, state, summary, meaning,
    advice, detail, opened_at, seen_at, notified_at, resolved_at, run_id)
select r.id, r.instance_id, r.fingerprint, r.job, r.cluster, r.group_name, r.severity, r.state, r.summary, r.meaning,
    r.advice, r.detail, r.opened_at, r.seen_at, r.notified_at, r.resolved_at, r.run_id
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.alerts, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (id) do update
set (instance_id, fingerprint, job, cluster, group_name, severity, state, summary, meaning, advice, detail, opened_at,
    seen_at, notified_at, resolved_at, run_id)
  = (excluded.instance_id, excluded.fingerprint, excluded.job, excluded.cluster, excluded.group_name,
    excluded.severity, excluded.state, excluded.summary, excluded.meaning, excluded.advice, excluded.detail,
    excluded.opened_at, excluded.seen_at, excluded.notified_at, excluded.resolved_at, excluded.run_id)
