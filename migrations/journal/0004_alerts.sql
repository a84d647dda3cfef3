-- Alerts know what was told of them; messages know their channel; silences.
drop view delivered;

create table new_alerts (
    id              text primary key,
    fingerprint     text not null,
    job             text not null,
    cluster         text,
    group_name      text not null,
    severity        text not null,
    state           text not null check (state in ('pending', 'open', 'acknowledged', 'resolved')),
    reach           text not null check (reach in ('object', 'cluster', 'host')),
    summary         text not null,
    meaning         text not null,
    advice          text not null,
    detail          text not null,
    looks           integer not null,
    opened_at       text not null,
    changed_at      text not null,
    seen_at         text not null,
    resolved_at     text,
    run_id          text,
    acknowledged_at text,
    acknowledged_by text,
    acknowledgement text,
    notified_at     text,                 -- what was told last: these four, or none
    told_severity   text,
    told_worst      text,
    incident_id     text
) strict;
-- What an earlier version had not sent yet is told again where it is still news; the messages are dropped below.
insert into new_alerts
select id, fingerprint, job, cluster, group_name, severity, state, 'object', summary, meaning, advice, detail, 1,
    opened_at, coalesce(notified_at, opened_at), seen_at, resolved_at, run_id,
    iif(state = 'acknowledged', seen_at, null), iif(state = 'acknowledged', 'unknown', null),
    iif(state = 'acknowledged', '', null), iif(told, coalesce(notified_at, opened_at), null),
    iif(told, iif(state = 'resolved' and not waits, 'ok', severity), null), iif(told, severity, null), iif(told, id, null)
from (select *, sent or not waits as told
      from (select a.*, exists (select 1 from notifications n where n.alert_id = a.id and n.state = 'pending') as waits,
                exists (select 1 from notifications n where n.alert_id = a.id and n.state = 'sent') as sent
            from alerts a));
drop table alerts;
alter table new_alerts rename to alerts;
create unique index alerts_one_per_problem on alerts (fingerprint) where state <> 'resolved';
create index alerts_by_time on alerts (opened_at desc);
create index alerts_open on alerts (id) where state <> 'resolved';
create index alerts_over_untold on alerts (id) where state = 'resolved' and told_severity <> 'ok';
create index alerts_down on alerts (resolved_at) where state = 'resolved' and reach <> 'object';

create table new_notifications (
    id              text primary key,
    alerts          text not null,        -- ids, JSON list
    incidents       text not null,        -- ids, JSON list
    group_name      text not null,
    channel         text not null,
    notice          text not null,
    severity        text not null,
    subject         text not null,
    content         text not null,        -- what is told, JSON; each channel has its own words for it
    state           text not null check (state in ('pending', 'held', 'sent', 'digested', 'dead')),
    attempts        integer not null,
    next_attempt_at text not null,
    recipients      text not null,        -- who was told, JSON list, once known
    last_error      text,
    escalated_at    text,                 -- when the fail-safe group was told in its place
    created_at      text not null,
    sent_at         text
) strict;
insert into new_notifications
select id, iif(alert_id is null, '[]', json_array(alert_id)), iif(alert_id is null, '[]', json_array(alert_id)), group_name,
    'mail', notice, severity, subject, '', state, attempts, next_attempt_at, recipients, last_error, null, created_at, sent_at
from notifications;
drop table notifications;
alter table new_notifications rename to notifications;
create index notifications_waiting on notifications (created_at) where state in ('pending', 'held');
create index notifications_by_channel on notifications (channel, created_at);

create index notifications_escalated on notifications (escalated_at) where escalated_at is not null;

create table silences (
    id         text primary key,
    cluster    text,
    job        text,
    object     text,
    reason     text not null,
    created_by text not null,
    created_at text not null,
    until_at   text not null,
    ended_at   text
) strict;

create trigger alerts_added after insert on alerts begin
    delete from changes where table_name = 'alerts' and key = new.id;
    insert into changes (table_name, key) values ('alerts', new.id);
end;
create trigger alerts_changed after update on alerts begin
    delete from changes where table_name = 'alerts' and key = new.id;
    insert into changes (table_name, key) values ('alerts', new.id);
end;
create trigger alerts_removed after delete on alerts begin
    delete from changes where table_name = 'alerts' and key = old.id;
end;
create trigger notifications_added after insert on notifications begin
    delete from changes where table_name = 'notifications' and key = new.id;
    insert into changes (table_name, key) values ('notifications', new.id);
end;
create trigger notifications_changed after update on notifications begin
    delete from changes where table_name = 'notifications' and key = new.id;
    insert into changes (table_name, key) values ('notifications', new.id);
end;
create trigger notifications_removed after delete on notifications begin
    delete from changes where table_name = 'notifications' and key = old.id;
end;
create trigger silences_added after insert on silences begin
    delete from changes where table_name = 'silences' and key = new.id;
    insert into changes (table_name, key) values ('silences', new.id);
end;
create trigger silences_changed after update on silences begin
    delete from changes where table_name = 'silences' and key = new.id;
    insert into changes (table_name, key) values ('silences', new.id);
end;
create trigger silences_removed after delete on silences begin
    delete from changes where table_name = 'silences' and key = old.id;
end;

update notifications set state = 'digested' where state = 'pending';

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
    'group_name', group_name, 'severity', severity, 'state', state, 'reach', reach, 'summary', summary,
    'meaning', meaning, 'advice', advice, 'detail', detail, 'looks', looks, 'opened_at', opened_at,
    'changed_at', changed_at, 'seen_at', seen_at, 'resolved_at', resolved_at, 'run_id', run_id,
    'acknowledged_at', acknowledged_at, 'acknowledged_by', acknowledged_by, 'acknowledgement', acknowledgement,
    'notified_at', notified_at, 'told_severity', told_severity, 'told_worst', told_worst,
    'incident_id', incident_id) from alerts
union all
select 'silences', id, json_object('id', id, 'cluster', cluster, 'job', job, 'object', object, 'reason', reason,
    'created_by', created_by, 'created_at', created_at, 'until_at', until_at, 'ended_at', ended_at) from silences
union all
select 'notifications', id, json_object('id', id, 'alert_id', json_extract(alerts, '$[0]'), 'alerts', json(alerts),
    'group_name', group_name, 'channel', channel, 'notice', notice, 'severity', severity, 'subject', subject,
    'state', state, 'attempts', attempts, 'recipients', json(recipients), 'last_error', last_error,
    'created_at', created_at, 'sent_at', sent_at) from notifications
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
