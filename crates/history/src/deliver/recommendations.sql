-- Rows of the journal, as a JSON array, into recommendations. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.recommendations (instance_id, cluster, job, database, topic, object, reason, figure, unit, statement,
    first_seen_at, last_seen_at, gone_at, run_id)
select r.instance_id, r.cluster, r.job, r.database, r.topic, r.object, r.reason, r.figure, r.unit, r.statement,
    r.first_seen_at, r.last_seen_at, r.gone_at, r.run_id
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.recommendations, e.row || pg_catalog.jsonb_build_object(
    'instance_id', $2::uuid)) as r
on conflict (instance_id, cluster, job, database, topic, object) do update
set (reason, figure, unit, statement, first_seen_at, last_seen_at, gone_at, run_id)
  = (excluded.reason, excluded.figure, excluded.unit, excluded.statement, excluded.first_seen_at,
    excluded.last_seen_at, excluded.gone_at, excluded.run_id)
