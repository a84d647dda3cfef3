-- Rows of the journal, as a JSON array, into queries. Idempotent: a row never changes.
insert /* pgbosun */ into dba_ops.queries (instance_id, cluster, query, text, seen_at)
select r.instance_id, r.cluster, r.query, r.text, r.seen_at
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.queries, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict do nothing
