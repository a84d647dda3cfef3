-- Rows of the journal, as a JSON array, into maintenance. Idempotent: a row never changes.
insert /* pgbosun */ into dba_ops.maintenance (id, instance_id, run_id, job, cluster, database, object, action, result, reason,
    bytes_before, bytes_after, wal_bytes, started_at, seconds)
select r.id, r.instance_id, r.run_id, r.job, r.cluster, r.database, r.object, r.action, r.result, r.reason,
    r.bytes_before, r.bytes_after, r.wal_bytes, r.started_at, r.seconds
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.maintenance, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (id) do nothing
