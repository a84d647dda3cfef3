-- Rows of the journal, as a JSON array, into notifications. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.notifications (id, instance_id, alert_id, alerts, group_name, channel, notice, severity, subject,
    state, attempts, recipients, last_error, created_at, sent_at)
select r.id, r.instance_id, r.alert_id, r.alerts, r.group_name, r.channel, r.notice, r.severity, r.subject, r.state,
    r.attempts, r.recipients, r.last_error, r.created_at, r.sent_at
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.notifications,
         e.row || pg_catalog.jsonb_build_object('instance_id', $2::uuid)) as r
on conflict (id) do update
set (instance_id, alert_id, alerts, group_name, channel, notice, severity, subject, state, attempts, recipients,
    last_error, created_at, sent_at)
  = (excluded.instance_id, excluded.alert_id, excluded.alerts, excluded.group_name, excluded.channel, excluded.notice,
    excluded.severity, excluded.subject, excluded.state, excluded.attempts, excluded.recipients, excluded.last_error,
    excluded.created_at, excluded.sent_at)
