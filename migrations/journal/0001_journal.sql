-- The journal: everything that happens is written here first. Times are RFC 3339 in UTC, identities are UUIDv7.

create table settings (
    name  text primary key,
    value text not null
) strict;

create table jobs (
    name         text primary key,
    kind         text not null,
    cluster      text,
    schedule     text,
    time_zone    text not null,
    configured   integer not null,
    looked_until text not null,           -- the planner has dealt with every time up to here
    paused_at    text,
    paused_by    text,
    pause_reason text,
    state        text                     -- what the next run needs to know, JSON
) strict;

create table runs (
    id            text primary key,
    job           text not null,
    kind          text not null,
    cluster       text,
    trigger       text not null check (trigger in ('schedule', 'catch-up', 'manual', 'start')),
    state         text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'timed-out',
                                                 'cancelled', 'skipped', 'missed', 'interrupted')),
    scheduled_for text not null,
    started_at    text,
    finished_at   text,
    attempts      integer not null,
    summary       text not null,
    error         text,
    check ((finished_at is null) = (state in ('queued', 'running')))
) strict;
-- A time of a schedule has one row, whatever happens.
create unique index runs_one_per_time on runs (job, scheduled_for) where trigger in ('schedule', 'catch-up');
create index runs_by_job on runs (job, scheduled_for desc);
create index runs_by_time on runs (finished_at);
create index runs_unfinished on runs (state) where state in ('queued', 'running');

-- A run never leaves its final state.
create trigger runs_end_once before update on runs
when old.finished_at is not null
begin
    select raise(abort, 'a finished run does not change');
end;

create table findings (
    id       text primary key,
    run_id   text not null,
    job      text not null,
    cluster  text,
    object   text not null,
    severity text not null,
    summary  text not null,
    meaning  text not null,
    advice   text not null,
    detail   text not null,
    seen_at  text not null
) strict;
create index findings_by_time on findings (seen_at);

create table alerts (
    id          text primary key,
    fingerprint text not null,
    job         text not null,
    cluster     text,
    group_name  text not null,
    severity    text not null,
    state       text not null check (state in ('open', 'acknowledged', 'resolved')),
    summary     text not null,
    meaning     text not null,
    advice      text not null,
    detail      text not null,
    opened_at   text not null,
    seen_at     text not null,
    notified_at text,
    resolved_at text,
    run_id      text
) strict;
create unique index alerts_one_per_problem on alerts (fingerprint) where state <> 'resolved';
create index alerts_by_time on alerts (opened_at desc);

create table notifications (
    id              text primary key,
    alert_id        text,
    group_name      text not null,
    notice          text not null,
    severity        text not null,
    subject         text not null,
    body_text       text not null,
    body_html       text not null,
    state           text not null check (state in ('pending', 'sent', 'dead')),
    attempts        integer not null,
    next_attempt_at text not null,
    recipients      text not null,        -- who was told, JSON list, once known
    last_error      text,
    created_at      text not null,
    sent_at         text
) strict;
create index notifications_due on notifications (next_attempt_at) where state = 'pending';

create table backups (
    cluster      text not null,
    repository   text not null,
    label        text not null,
    kind         text not null,
    state        text not null check (state in ('complete', 'verified', 'suspect', 'removed')),
    system_id    text not null,
    started_at   text not null,
    finished_at  text not null,
    start_lsn    text not null,
    stop_lsn     text not null,
    timeline     integer not null,
    bytes        integer not null,
    stored_bytes integer not null,
    run_id       text,
    changed_at   text not null,
    primary key (cluster, repository, label)
) strict;

create table restore_tests (
    id                         text primary key,
    run_id                     text,
    cluster                    text not null,
    repository                 text not null,
    label                      text not null,
    started_at                 text not null,
    total_seconds              real not null,
    restore_seconds            real not null,
    recovery_seconds           real not null,
    check_seconds              real not null,
    recovery_point_age_seconds real not null,
    databases                  integer not null,
    tables                     integer not null,
    rows                       integer not null,
    passed                     integer not null,
    detail                     text not null
) strict;

create table audit_log (
    id     text primary key,
    at     text not null,
    actor  text not null,
    action text not null,
    object text not null,
    detail text not null
) strict;

-- The operators as last read from dba_ops, for when that database is down. Not delivered: dba_ops is their home.
create table operator_cache (
    group_name text not null,
    email      text not null,
    name       text,
    primary key (group_name, email)
) strict;

-- The change log: one entry per row, moved to the end at each change of the row. Delivery follows it. The triggers
-- delete and insert, since "insert or replace" would follow the conflict clause of the statement that fired them.
create table changes (
    seq        integer primary key autoincrement,
    table_name text not null,
    key        text not null,
    unique (table_name, key)
) strict;

create trigger jobs_added after insert on jobs begin
    delete from changes where table_name = 'jobs' and key = new.name;
    insert into changes (table_name, key) values ('jobs', new.name);
end;
create trigger jobs_changed after update of kind, cluster, schedule, time_zone, configured, paused_at, paused_by, pause_reason on jobs begin
    delete from changes where table_name = 'jobs' and key = new.name;
    insert into changes (table_name, key) values ('jobs', new.name);
end;
create trigger runs_added after insert on runs begin
    delete from changes where table_name = 'job_runs' and key = new.id;
    insert into changes (table_name, key) values ('job_runs', new.id);
end;
create trigger runs_changed after update on runs begin
    delete from changes where table_name = 'job_runs' and key = new.id;
    insert into changes (table_name, key) values ('job_runs', new.id);
end;
create trigger runs_removed after delete on runs begin
    delete from changes where table_name = 'job_runs' and key = old.id;
end;
create trigger findings_added after insert on findings begin
    delete from changes where table_name = 'findings' and key = new.id;
    insert into changes (table_name, key) values ('findings', new.id);
end;
create trigger findings_removed after delete on findings begin
    delete from changes where table_name = 'findings' and key = old.id;
end;
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
create trigger backups_added after insert on backups begin
    delete from changes where table_name = 'backups' and key = json_array(new.cluster, new.repository, new.label);
    insert into changes (table_name, key) values ('backups', json_array(new.cluster, new.repository, new.label));
end;
create trigger backups_changed after update on backups begin
    delete from changes where table_name = 'backups' and key = json_array(new.cluster, new.repository, new.label);
    insert into changes (table_name, key) values ('backups', json_array(new.cluster, new.repository, new.label));
end;
create trigger restore_tests_added after insert on restore_tests begin
    delete from changes where table_name = 'restore_tests' and key = new.id;
    insert into changes (table_name, key) values ('restore_tests', new.id);
end;
create trigger restore_tests_removed after delete on restore_tests begin
    delete from changes where table_name = 'restore_tests' and key = old.id;
end;
create trigger audit_log_added after insert on audit_log begin
    delete from changes where table_name = 'audit_log' and key = new.id;
    insert into changes (table_name, key) values ('audit_log', new.id);
end;
create trigger audit_log_removed after delete on audit_log begin
    delete from changes where table_name = 'audit_log' and key = old.id;
end;

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
    'stored_bytes', stored_bytes, 'run_id', run_id, 'changed_at', changed_at) from backups
union all
select 'restore_tests', id, json_object('id', id, 'run_id', run_id, 'cluster', cluster, 'repository', repository,
    'label', label, 'started_at', started_at, 'total_seconds', total_seconds, 'restore_seconds', restore_seconds,
    'recovery_seconds', recovery_seconds, 'check_seconds', check_seconds,
    'recovery_point_age_seconds', recovery_point_age_seconds, 'databases', databases, 'tables', tables,
    'rows', rows, 'passed', json(iif(passed, 'true', 'false')), 'detail', detail) from restore_tests
union all
select 'audit_log', id, json_object('id', id, 'at', at, 'actor', actor, 'action', action, 'object', object,
    'detail', detail) from audit_log;
