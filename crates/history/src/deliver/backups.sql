-- Rows of the journal, as a JSON array, into backups. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.backups (instance_id, cluster, repository, label, kind, state, system_id, started_at, finished_at,
    start_lsn, stop_lsn, timeline, bytes, stored_bytes, run_id, changed_at, parent)
select r.instance_id, r.cluster, r.repository, r.label, r.kind, r.state, r.system_id, r.started_at, r.finished_at,
    r.start_lsn, r.stop_lsn, r.timeline, r.bytes, r.stored_bytes, r.run_id, r.changed_at, r.parent
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.backups, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (instance_id, cluster, repository, label) do update
set (kind, state, system_id, started_at, finished_at, start_lsn, stop_lsn, timeline, bytes, stored_bytes, run_id,
    changed_at, parent)
  = (excluded.kind, excluded.state, excluded.system_id, excluded.started_at, excluded.finished_at, excluded.start_lsn,
    excluded.stop_lsn, excluded.timeline, excluded.bytes, excluded.stored_bytes, excluded.run_id, excluded.changed_at,
    excluded.parent)
