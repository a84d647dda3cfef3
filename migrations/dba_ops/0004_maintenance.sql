-- What maintenance did to each object, and what is recommended.
create table dba_ops.maintenance (
    id uuid primary key,
    instance_id uuid not null,
    run_id uuid not null,
    job text not null,
    cluster text not null,
    database text not null,
    object text not null,
    action text not null,
    result text not null check (result in ('done', 'skipped', 'failed')),
    reason text not null,
    bytes_before bigint,
    bytes_after bigint,
    wal_bytes bigint,
    started_at timestamptz not null,
    seconds double precision not null
);
comment on table dba_ops.maintenance is 'Every table and index that maintenance worked on or left out.';
comment on column dba_ops.maintenance.id is 'Identity.';
comment on column dba_ops.maintenance.instance_id is 'The installation.';
comment on column dba_ops.maintenance.run_id is 'The run.';
comment on column dba_ops.maintenance.job is 'Its job.';
comment on column dba_ops.maintenance.cluster is 'Cluster.';
comment on column dba_ops.maintenance.database is 'Database.';
comment on column dba_ops.maintenance.object is 'Table or index, as SQL names it.';
comment on column dba_ops.maintenance.action is 'vacuum, analyze, reindex, drop (of what an interrupted reindex left) or check.';
comment on column dba_ops.maintenance.result is 'done, skipped (not begun, or given up before it changed anything) or failed.';
comment on column dba_ops.maintenance.reason is 'Why it was chosen, left out, or failed.';
comment on column dba_ops.maintenance.bytes_before is 'Its size before: a table with indexes and TOAST, or one index.';
comment on column dba_ops.maintenance.bytes_after is 'Its size after.';
comment on column dba_ops.maintenance.wal_bytes is 'WAL that the whole server wrote meanwhile.';
comment on column dba_ops.maintenance.started_at is 'When it began.';
comment on column dba_ops.maintenance.seconds is 'How long it took.';
create index maintenance_by_time on dba_ops.maintenance (started_at);
create index maintenance_by_object on dba_ops.maintenance (cluster, database, object, started_at);

create table dba_ops.recommendations (
    instance_id uuid not null,
    cluster text not null,
    job text not null,
    database text not null,
    topic text not null,
    object text not null,
    reason text not null,
    figure double precision not null,
    unit text not null,
    statement text not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    gone_at timestamptz,
    run_id uuid not null,
    primary key (instance_id, cluster, job, database, topic, object)
);
comment on table dba_ops.recommendations is 'What somebody should decide about, with the figure and the SQL.';
comment on column dba_ops.recommendations.instance_id is 'The installation.';
comment on column dba_ops.recommendations.cluster is 'Cluster.';
comment on column dba_ops.recommendations.job is 'The job that found it.';
comment on column dba_ops.recommendations.database is 'Database.';
comment on column dba_ops.recommendations.topic is 'What it is about: unused-index, duplicate-index, autovacuum and so on.';
comment on column dba_ops.recommendations.object is 'Table or index, as SQL names it.';
comment on column dba_ops.recommendations.reason is 'Why.';
comment on column dba_ops.recommendations.figure is 'How much it is about.';
comment on column dba_ops.recommendations.unit is 'Of what: bytes, rows, …';
comment on column dba_ops.recommendations.statement is 'The SQL that would do it.';
comment on column dba_ops.recommendations.first_seen_at is 'Since when.';
comment on column dba_ops.recommendations.last_seen_at is 'When it was found last.';
comment on column dba_ops.recommendations.gone_at is 'When it was not found any more.';
comment on column dba_ops.recommendations.run_id is 'The run that found it last.';
