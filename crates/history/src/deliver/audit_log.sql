-- Rows of the journal, as a JSON array, into audit_log. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.audit_log (id, instance_id, at, actor, action, object, detail, origin, outcome)
select r.id, r.instance_id, r.at, r.actor, r.action, r.object, r.detail, coalesce(r.origin, ''), coalesce(r.outcome, '')
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.audit_log, e.row || pg_catalog.jsonb_build_object('instance_id',
    $2::uuid)) as r
on conflict (id) do update
set (instance_id, at, actor, action, object, detail, origin, outcome)
  = (excluded.instance_id, excluded.at, excluded.actor, excluded.action, excluded.object, excluded.detail, excluded.origin,
     excluded.outcome)
