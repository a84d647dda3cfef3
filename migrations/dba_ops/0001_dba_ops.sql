-- Schema dba_ops: the shared record. operator_groups and operators are edited here; the other tables are a projection
-- of each installation's journal, filled in the order of its change log. Rows refer to one another by identity without
-- foreign keys, since a row may arrive before a later version of the one it names.

create table dba_ops.operator_groups (
    group_name varchar(50) primary key,
    description text,
    active boolean default true
);
comment on table dba_ops.operator_groups is 'Groups of people who are told about alerts.';
comment on column dba_ops.operator_groups.group_name is 'Name, as in the configuration.';
comment on column dba_ops.operator_groups.description is 'What the group cares for.';
comment on column dba_ops.operator_groups.active is 'False: nobody of the group is told.';

create table dba_ops.operators (
    operator_id serial primary key,
    group_name varchar(50) references dba_ops.operator_groups (group_name),
    email varchar(255) not null,
    name varchar(100),
    active boolean default true
);
comment on table dba_ops.operators is 'People who are told about alerts, each with an address.';
comment on column dba_ops.operators.operator_id is 'Identity.';
comment on column dba_ops.operators.group_name is 'The group.';
comment on column dba_ops.operators.email is 'Where mail goes.';
comment on column dba_ops.operators.name is 'The person.';
comment on column dba_ops.operators.active is 'False: is not told, on leave for instance.';
create unique index operators_once_per_group on dba_ops.operators (group_name, lower(email));

insert into dba_ops.operator_groups (group_name, description) values
    ('database', 'Outages, backups, restores'),
    ('security', 'Failed logins, permissions'),
    ('system', 'Resources, maintenance');

create table dba_ops.instances (
    instance_id uuid primary key,
    name text not null,
    delivered_seq bigint not null default 0,
    delivered_at timestamptz,
    check (delivered_seq >= 0)
);
comment on table dba_ops.instances is 'The installations of pgbosun that deliver here.';
comment on column dba_ops.instances.instance_id is 'Identity, made with the journal.';
comment on column dba_ops.instances.name is 'Host name, or the configured name.';
comment on column dba_ops.instances.delivered_seq is 'How far its change log has been delivered; set in the transaction of the rows.';
comment on column dba_ops.instances.delivered_at is 'When that was.';

create table dba_ops.jobs (
    instance_id uuid not null,
    name text not null,
    kind text not null,
    cluster text,
    schedule text,
    time_zone text not null,
    configured boolean not null,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    primary key (instance_id, name)
);
comment on table dba_ops.jobs is 'The jobs of each installation, as configured.';
comment on column dba_ops.jobs.instance_id is 'The installation.';
comment on column dba_ops.jobs.name is 'Name in the configuration.';
comment on column dba_ops.jobs.kind is 'What it does.';
comment on column dba_ops.jobs.cluster is 'The cluster it works on.';
comment on column dba_ops.jobs.schedule is 'Its cron expression; without one it runs on demand.';
comment on column dba_ops.jobs.time_zone is 'The zone of its schedule.';
comment on column dba_ops.jobs.configured is 'False once it left the configuration.';
comment on column dba_ops.jobs.paused_at is 'Since when it is paused.';
comment on column dba_ops.jobs.paused_by is 'Who paused it.';
comment on column dba_ops.jobs.pause_reason is 'Why.';

create table dba_ops.job_runs (
    id uuid not null,
    instance_id uuid not null,
    job text not null,
    kind text not null,
    cluster text,
    trigger text not null,
    state text not null,
    scheduled_for timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    attempts integer not null,
    summary text not null,
    error text,
    primary key (id),
    check (trigger in ('schedule', 'catch-up', 'manual', 'start')),
    check (state in ('queued', 'running', 'succeeded', 'failed', 'timed-out', 'cancelled', 'skipped', 'missed', 'interrupted')),
    check ((finished_at is null) = (state in ('queued', 'running')))
);
comment on table dba_ops.job_runs is 'One row for every run, and for every time that was skipped or missed.';
comment on column dba_ops.job_runs.id is 'Identity, ordered by time.';
comment on column dba_ops.job_runs.instance_id is 'The installation.';
comment on column dba_ops.job_runs.job is 'Name of the job.';
comment on column dba_ops.job_runs.kind is 'Kind of the job.';
comment on column dba_ops.job_runs.cluster is 'The cluster it worked on.';
comment on column dba_ops.job_runs.trigger is 'Why it started.';
comment on column dba_ops.job_runs.state is 'Where it stands; a final state is never left.';
comment on column dba_ops.job_runs.scheduled_for is 'When it was due.';
comment on column dba_ops.job_runs.started_at is 'When it began.';
comment on column dba_ops.job_runs.finished_at is 'When it ended.';
comment on column dba_ops.job_runs.attempts is 'How often it was tried.';
comment on column dba_ops.job_runs.summary is 'What it did, why it did not start, or how it failed.';
comment on column dba_ops.job_runs.error is 'The whole error with its causes.';
create index job_runs_by_job on dba_ops.job_runs (job, scheduled_for desc);
create index job_runs_by_time on dba_ops.job_runs (finished_at);
create index job_runs_failed on dba_ops.job_runs (finished_at desc) where state in ('failed', 'timed-out', 'interrupted');

create table dba_ops.findings (
    id uuid not null,
    instance_id uuid not null,
    run_id uuid not null,
    job text not null,
    cluster text,
    object text not null,
    severity text not null,
    summary text not null,
    meaning text not null,
    advice text not null,
    detail text not null,
    seen_at timestamptz not null,
    primary key (id),
    check (severity in ('ok', 'warning', 'unknown', 'critical'))
);
comment on table dba_ops.findings is 'What runs found wrong.';
comment on column dba_ops.findings.id is 'Identity.';
comment on column dba_ops.findings.instance_id is 'The installation.';
comment on column dba_ops.findings.run_id is 'The run that found it.';
comment on column dba_ops.findings.job is 'Its job.';
comment on column dba_ops.findings.cluster is 'The cluster.';
comment on column dba_ops.findings.object is 'What it is about.';
comment on column dba_ops.findings.severity is 'How bad.';
comment on column dba_ops.findings.summary is 'What is wrong, one line.';
comment on column dba_ops.findings.meaning is 'What it means.';
comment on column dba_ops.findings.advice is 'What to do.';
comment on column dba_ops.findings.detail is 'Figures.';
comment on column dba_ops.findings.seen_at is 'When it was seen.';
create index findings_by_time on dba_ops.findings (seen_at);
create index findings_by_run on dba_ops.findings (run_id);

create table dba_ops.alerts (
    id uuid not null,
    instance_id uuid not null,
    fingerprint text not null,
    job text not null,
    cluster text,
    group_name text not null,
    severity text not null,
    state text not null,
    summary text not null,
    meaning text not null,
    advice text not null,
    detail text not null,
    opened_at timestamptz not null,
    seen_at timestamptz not null,
    notified_at timestamptz,
    resolved_at timestamptz,
    run_id uuid,
    primary key (id),
    check (severity in ('ok', 'warning', 'unknown', 'critical')),
    check (state in ('open', 'acknowledged', 'resolved')),
    check ((resolved_at is null) = (state <> 'resolved'))
);
comment on table dba_ops.alerts is 'Problems from the run that first saw them to the run that no longer did.';
comment on column dba_ops.alerts.id is 'Identity; a problem that comes back is a new alert.';
comment on column dba_ops.alerts.instance_id is 'The installation.';
comment on column dba_ops.alerts.fingerprint is 'Job and object: the identity of the problem.';
comment on column dba_ops.alerts.job is 'The job that found it.';
comment on column dba_ops.alerts.cluster is 'The cluster.';
comment on column dba_ops.alerts.group_name is 'The operator group that is told.';
comment on column dba_ops.alerts.severity is 'How bad it is now.';
comment on column dba_ops.alerts.state is 'Where it stands.';
comment on column dba_ops.alerts.summary is 'What is wrong, one line.';
comment on column dba_ops.alerts.meaning is 'What it means.';
comment on column dba_ops.alerts.advice is 'What to do.';
comment on column dba_ops.alerts.detail is 'Figures.';
comment on column dba_ops.alerts.opened_at is 'When it was first seen.';
comment on column dba_ops.alerts.seen_at is 'When it was last seen.';
comment on column dba_ops.alerts.notified_at is 'When the group was last told.';
comment on column dba_ops.alerts.resolved_at is 'When it was over.';
comment on column dba_ops.alerts.run_id is 'The run that last saw it.';
create index alerts_open on dba_ops.alerts (opened_at desc) where state <> 'resolved';
create index alerts_by_time on dba_ops.alerts (opened_at desc);

create table dba_ops.notifications (
    id uuid not null,
    instance_id uuid not null,
    alert_id uuid,
    group_name text not null,
    notice text not null,
    severity text not null,
    subject text not null,
    state text not null,
    attempts integer not null,
    recipients jsonb not null,
    last_error text,
    created_at timestamptz not null,
    sent_at timestamptz,
    primary key (id),
    check (state in ('pending', 'sent', 'dead')),
    check (notice in ('opened', 'changed', 'reminder', 'resolved', 'test')),
    check ((sent_at is null) = (state <> 'sent'))
);
comment on table dba_ops.notifications is 'Messages to operators and what became of them.';
comment on column dba_ops.notifications.id is 'Identity; the Message-ID of a mail is made of it.';
comment on column dba_ops.notifications.instance_id is 'The installation.';
comment on column dba_ops.notifications.alert_id is 'The alert it tells of.';
comment on column dba_ops.notifications.group_name is 'The group it goes to.';
comment on column dba_ops.notifications.notice is 'What it tells: opened, changed, reminder, resolved, test.';
comment on column dba_ops.notifications.severity is 'How bad.';
comment on column dba_ops.notifications.subject is 'Its subject.';
comment on column dba_ops.notifications.state is 'Where it stands.';
comment on column dba_ops.notifications.attempts is 'How often delivery was tried.';
comment on column dba_ops.notifications.recipients is 'Who was told.';
comment on column dba_ops.notifications.last_error is 'Why the last try failed.';
comment on column dba_ops.notifications.created_at is 'When it was written.';
comment on column dba_ops.notifications.sent_at is 'When it was accepted.';
create index notifications_by_time on dba_ops.notifications (created_at);
create index notifications_by_alert on dba_ops.notifications (alert_id);

create table dba_ops.backups (
    instance_id uuid not null,
    cluster text not null,
    repository text not null,
    label text not null,
    kind text not null,
    state text not null,
    system_id text not null,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    start_lsn pg_lsn not null,
    stop_lsn pg_lsn not null,
    timeline integer not null,
    bytes bigint not null,
    stored_bytes bigint not null,
    run_id uuid,
    changed_at timestamptz not null,
    primary key (instance_id, cluster, repository, label),
    check (state in ('complete', 'verified', 'suspect', 'removed')),
    check (bytes >= 0 and stored_bytes >= 0)
);
comment on table dba_ops.backups is 'Backups as last known; the repository itself has the last word.';
comment on column dba_ops.backups.instance_id is 'The installation.';
comment on column dba_ops.backups.cluster is 'The cluster.';
comment on column dba_ops.backups.repository is 'The repository.';
comment on column dba_ops.backups.label is 'Name in the repository.';
comment on column dba_ops.backups.kind is 'full.';
comment on column dba_ops.backups.state is 'What is known of it.';
comment on column dba_ops.backups.system_id is 'System identifier of the cluster.';
comment on column dba_ops.backups.started_at is 'Begin.';
comment on column dba_ops.backups.finished_at is 'End.';
comment on column dba_ops.backups.start_lsn is 'First WAL position needed.';
comment on column dba_ops.backups.stop_lsn is 'Consistent from here.';
comment on column dba_ops.backups.timeline is 'Timeline of the stop position.';
comment on column dba_ops.backups.bytes is 'Bytes read from the server.';
comment on column dba_ops.backups.stored_bytes is 'Bytes stored.';
comment on column dba_ops.backups.run_id is 'The run that took it.';
comment on column dba_ops.backups.changed_at is 'When this row last changed.';
create index backups_newest on dba_ops.backups (cluster, finished_at desc) where state <> 'removed';

create table dba_ops.restore_tests (
    id uuid not null,
    instance_id uuid not null,
    run_id uuid,
    cluster text not null,
    repository text not null,
    label text not null,
    started_at timestamptz not null,
    total_seconds double precision not null,
    restore_seconds double precision not null,
    recovery_seconds double precision not null,
    check_seconds double precision not null,
    recovery_point_age_seconds double precision not null,
    databases bigint not null,
    tables bigint not null,
    rows bigint not null,
    passed boolean not null,
    detail text not null,
    primary key (id)
);
comment on table dba_ops.restore_tests is 'Measured restores: proof that backups restore, and how long it takes.';
comment on column dba_ops.restore_tests.id is 'Identity.';
comment on column dba_ops.restore_tests.instance_id is 'The installation.';
comment on column dba_ops.restore_tests.run_id is 'The run.';
comment on column dba_ops.restore_tests.cluster is 'The cluster.';
comment on column dba_ops.restore_tests.repository is 'The repository.';
comment on column dba_ops.restore_tests.label is 'The backup.';
comment on column dba_ops.restore_tests.started_at is 'Begin.';
comment on column dba_ops.restore_tests.total_seconds is 'Begin to checked server: the measured recovery time (RTO).';
comment on column dba_ops.restore_tests.restore_seconds is 'Fetching and unpacking.';
comment on column dba_ops.restore_tests.recovery_seconds is 'Server start to consistent state.';
comment on column dba_ops.restore_tests.check_seconds is 'Checks.';
comment on column dba_ops.restore_tests.recovery_point_age_seconds is 'Age of the recovered state when the test began: the measured recovery point (RPO).';
comment on column dba_ops.restore_tests.databases is 'Databases found.';
comment on column dba_ops.restore_tests.tables is 'Ordinary tables counted.';
comment on column dba_ops.restore_tests.rows is 'Rows counted in them.';
comment on column dba_ops.restore_tests.passed is 'Whether everything held.';
comment on column dba_ops.restore_tests.detail is 'What did not, or what was found.';
create index restore_tests_by_time on dba_ops.restore_tests (cluster, started_at desc);

create table dba_ops.audit_log (
    id uuid not null,
    instance_id uuid not null,
    at timestamptz not null,
    actor text not null,
    action text not null,
    object text not null,
    detail text not null,
    primary key (id)
);
comment on table dba_ops.audit_log is 'Who changed what: pauses, cancels, restores, operators, migrations.';
comment on column dba_ops.audit_log.id is 'Identity.';
comment on column dba_ops.audit_log.instance_id is 'The installation.';
comment on column dba_ops.audit_log.at is 'When.';
comment on column dba_ops.audit_log.actor is 'Who.';
comment on column dba_ops.audit_log.action is 'What was done.';
comment on column dba_ops.audit_log.object is 'To what.';
comment on column dba_ops.audit_log.detail is 'Further words.';
create index audit_log_by_time on dba_ops.audit_log (at desc);
