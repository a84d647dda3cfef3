-- Rows of the journal, as a JSON array, into silences. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.silences (id, instance_id, cluster, job, object, reason, created_by, created_at, until_at,
    ended_at)
select r.id, r.instance_id, r.cluster, r.job, r.object, r.reason, r.created_by, r.created_at, r.until_at, r.ended_at
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.silences,
         e.row || pg_catalog.jsonb_build_object('instance_id', $2::uuid)) as r
on conflict (id) do update
set (instance_id, cluster, job, object, reason, created_by, created_at, until_at, ended_at)
  = (excluded.instance_id, excluded.cluster, excluded.job, excluded.object, excluded.reason, excluded.created_by,
    excluded.created_at, excluded.until_at, excluded.ended_at)
