-- Backups that build upon others, and how far a restore test recovered.
alter table backups add column parent text;
alter table restore_tests add column find_seconds real not null default 0;
alter table restore_tests add column target text not null default 'the backup''s own end';
alter table restore_tests add column recovered_to text;

drop view delivered;
-- Each row as dba_ops takes it.
create view delivered (table_name, key, row) as
select 'jobs', name, json_object('name', name, 'kind', kind, 'cluster', cluster, 'schedule', schedule,
    'time_zone', time_zone, 'configured', json(iif(configured, 'true', 'false')), 'paused_at', paused_at,
    'paused_by', paused_by, 'pause_reason', pause_reason) from jobs
union all
select 'job_runs', id, json_object('id', id, 'job', job, 'kind', kind, 'cluster', cluster, 'trigger', trigger,
    'state', state, 'scheduled_for', scheduled_for, 'started_at', started_at, 'finished_at', finished_at,
    'attempts', attempts, 'summary', summary, 'error', error) from runs
union all
select 'findings', id, json_object('id', id, 'run_id', run_id, 'job', job, 'cluster', cluster, 'object', object,
    'severity', severity, 'summary', summary, 'meaning', meaning, 'advice', advice, 'detail', detail,
    'seen_at', seen_at) from findings
union all
select 'alerts', id, json_object('id', id, 'fingerprint', fingerprint, 'job', job, 'cluster', cluster,
    'group_name', group_name, 'severity', severity, 'state', state, 'summary', summary, 'meaning', meaning,
    'advice', advice, 'detail', detail, 'opened_at', opened_at, 'seen_at', seen_at, 'notified_at', notified_at,
    'resolved_at', resolved_at, 'run_id', run_id) from alerts
union all
select 'notifications', id, json_object('id', id, 'alert_id', alert_id, 'group_name', group_name, 'notice', notice,
    'severity', severity, 'subject', subject, 'state', state, 'attempts', attempts,
    'recipients', json(recipients), 'last_error', last_error, 'created_at', created_at, 'sent_at', sent_at)
    from notifications
union all
select 'backups', json_array(cluster, repository, label), json_object('cluster', cluster, 'repository', repository,
    'label', label, 'kind', kind, 'state', state, 'system_id', system_id, 'started_at', started_at,
    'finished_at', finished_at, 'start_lsn', start_lsn, 'stop_lsn', stop_lsn, 'timeline', timeline, 'bytes', bytes,
    'stored_bytes', stored_bytes, 'run_id', run_id, 'changed_at', changed_at, 'parent', parent) from backups
union all
select 'restore_tests', id, json_object('id', id, 'run_id', run_id, 'cluster', cluster, 'repository', repository,
    'label', label, 'started_at', started_at, 'total_seconds', total_seconds, 'restore_seconds', restore_seconds,
    'recovery_seconds', recovery_seconds, 'check_seconds', check_seconds,
    'recovery_point_age_seconds', recovery_point_age_seconds, 'databases', databases, 'tables', tables,
    'rows', rows, 'passed', json(iif(passed, 'true', 'false')), 'detail', detail, 'find_seconds', find_seconds,
    'target', target, 'recovered_to', recovered_to) from restore_tests
union all
select 'audit_log', id, json_object('id', id, 'at', at, 'actor', actor, 'action', action, 'object', object,
    'detail', detail) from audit_log;
