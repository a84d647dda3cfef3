-- Rows of the journal, as a JSON array, into alerts. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.alerts (id, instance_id, fingerprint, job, cluster, group_name, severity, state, reach, summary,
    meaning, advice, detail, looks, opened_at, changed_at, seen_at, resolved_at, run_id, acknowledged_at,
    acknowledged_by, acknowledgement, notified_at, told_severity, told_worst, incident_id, resolution)
select r.id, r.instance_id, r.fingerprint, r.job, r.cluster, r.group_name, r.severity, r.state, r.reach, r.summary,
    r.meaning, r.advice, r.detail, r.looks, r.opened_at, r.changed_at, r.seen_at, r.resolved_at, r.run_id,
    r.acknowledged_at, r.acknowledged_by, r.acknowledgement, r.notified_at, r.told_severity, r.told_worst,
    r.incident_id, r.resolution
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.alerts,
         e.row || pg_catalog.jsonb_build_object('instance_id', $2::uuid)) as r
on conflict (id) do update
set (instance_id, fingerprint, job, cluster, group_name, severity, state, reach, summary, meaning, advice, detail,
    looks, opened_at, changed_at, seen_at, resolved_at, run_id, acknowledged_at, acknowledged_by, acknowledgement,
    notified_at, told_severity, told_worst, incident_id, resolution)
  = (excluded.instance_id, excluded.fingerprint, excluded.job, excluded.cluster, excluded.group_name, excluded.severity,
    excluded.state, excluded.reach, excluded.summary, excluded.meaning, excluded.advice, excluded.detail,
    excluded.looks, excluded.opened_at, excluded.changed_at, excluded.seen_at, excluded.resolved_at, excluded.run_id,
    excluded.acknowledged_at, excluded.acknowledged_by, excluded.acknowledgement, excluded.notified_at,
    excluded.told_severity, excluded.told_worst, excluded.incident_id, excluded.resolution)
