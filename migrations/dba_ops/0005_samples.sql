-- What the server did between two moments, and the words of its statements.
create table dba_ops.samples (
    instance_id uuid not null,
    cluster text not null,
    topic text not null,
    span text not null check (span in ('sample', 'hour', 'day')),
    at timestamptz not null,
    seconds double precision not null,
    rows jsonb not null,
    primary key (instance_id, cluster, topic, span, at)
);
comment on table dba_ops.samples is 'What the server did between two moments, compact; the view sample_rows has a line for each value.';
comment on column dba_ops.samples.instance_id is 'The installation.';
comment on column dba_ops.samples.cluster is 'Cluster.';
comment on column dba_ops.samples.topic is 'statements, tables, indexes, databases, server, io, waits, sizes or host.';
comment on column dba_ops.samples.span is 'As sampled, an hour of it, or a day.';
comment on column dba_ops.samples.at is 'The beginning.';
comment on column dba_ops.samples.seconds is 'The length.';
comment on column dba_ops.samples.rows is 'A list of pairs: what it is about, and the values, in the order of docs/samples.md.';
create index samples_by_time on dba_ops.samples (span, at);

create table dba_ops.queries (
    instance_id uuid not null,
    cluster text not null,
    query text not null,
    text text not null,
    seen_at timestamptz not null,
    primary key (instance_id, cluster, query)
);
comment on table dba_ops.queries is 'The words of statements, as pg_stat_statements normalizes them, without passwords.';
comment on column dba_ops.queries.instance_id is 'The installation.';
comment on column dba_ops.queries.cluster is 'Cluster.';
comment on column dba_ops.queries.query is 'queryid.';
comment on column dba_ops.queries.text is 'The words.';
comment on column dba_ops.queries.seen_at is 'When it was seen first.';

create view dba_ops.sample_rows as
select s.instance_id, s.cluster, s.topic, s.span, s.at, s.seconds, r.pair -> 0 as key, r.pair -> 1 as values
from dba_ops.samples s
cross join lateral pg_catalog.jsonb_array_elements(s.rows) as r (pair);
comment on view dba_ops.sample_rows is 'Samples with a line for each of their rows.';
