-- Rows of the journal, as a JSON array, into samples. Idempotent: a row never changes.
insert /* pgbosun */ into dba_ops.samples (instance_id, cluster, topic, span, at, seconds, rows)
select r.instance_id, r.cluster, r.topic, r.span, r.at, r.seconds, r.rows
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.samples, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict do nothing
