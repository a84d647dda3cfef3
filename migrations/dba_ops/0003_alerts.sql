-- Alerts know what was told of them; messages know their channel; silences; operators are audited and watched.
alter table dba_ops.alerts
    drop constraint alerts_state_check,
    add constraint alerts_state_check check (state in ('pending', 'open', 'acknowledged', 'resolved')),
    add column reach text not null default 'object' check (reach in ('object', 'cluster', 'host')),
    add column looks integer not null default 1,
    add column changed_at timestamptz,
    add column acknowledged_at timestamptz,
    add column acknowledged_by text,
    add column acknowledgement text,
    add column told_severity text,
    add column told_worst text,
    add column incident_id uuid;
comment on column dba_ops.alerts.reach is 'What it explains: itself, its cluster (the server is down), or a host.';
comment on column dba_ops.alerts.looks is 'How many looks in a row saw it.';
comment on column dba_ops.alerts.changed_at is 'When its state or severity last changed.';
comment on column dba_ops.alerts.acknowledged_at is 'Since when somebody looks at it.';
comment on column dba_ops.alerts.acknowledged_by is 'Who does.';
comment on column dba_ops.alerts.acknowledgement is 'What they say.';
comment on column dba_ops.alerts.told_severity is 'The severity the group was told last; ok once told that it is over.';
comment on column dba_ops.alerts.told_worst is 'The worst severity told.';
comment on column dba_ops.alerts.incident_id is 'What was told together at first: one thread of mails.';

alter table dba_ops.notifications
    drop constraint notifications_state_check,
    drop constraint notifications_notice_check,
    add constraint notifications_state_check check (state in ('pending', 'held', 'sent', 'digested', 'dead')),
    add constraint notifications_notice_check
        check (notice in ('opened', 'changed', 'reminder', 'acknowledged', 'resolved', 'test')),
    add column channel text not null default 'mail',
    add column alerts jsonb;
comment on column dba_ops.notifications.alert_id is 'The first alert it tells of.';
comment on column dba_ops.notifications.channel is 'How it leaves.';
comment on column dba_ops.notifications.alerts is 'The identities of all alerts it tells of.';
comment on column dba_ops.notifications.state is
    'Where it stands: pending, sent, dead (given up), held (past the limit of its channel), digested (sent in a digest).';
comment on column dba_ops.notifications.notice is 'What it tells: opened, changed, reminder, acknowledged, resolved, test.';

create table dba_ops.silences (
    id uuid not null,
    instance_id uuid not null,
    cluster text,
    job text,
    object text,
    reason text not null,
    created_by text not null,
    created_at timestamptz not null,
    until_at timestamptz not null,
    ended_at timestamptz,
    primary key (id)
);
comment on table dba_ops.silences is 'Promises to keep quiet about some alerts until a time.';
comment on column dba_ops.silences.id is 'Identity.';
comment on column dba_ops.silences.instance_id is 'The installation.';
comment on column dba_ops.silences.cluster is 'Alerts of clusters like this; any where null.';
comment on column dba_ops.silences.job is 'Alerts of jobs like this; any where null.';
comment on column dba_ops.silences.object is 'Alerts about what is like this; any where null.';
comment on column dba_ops.silences.reason is 'Why.';
comment on column dba_ops.silences.created_by is 'Who asked for it.';
comment on column dba_ops.silences.created_at is 'When.';
comment on column dba_ops.silences.until_at is 'When it ends.';
comment on column dba_ops.silences.ended_at is 'When somebody ended it before.';
create index silences_by_time on dba_ops.silences (until_at);

-- Whoever changes who is told, by the command or by hand, is written down, and every daemon hears of it. The command names
-- the person in pgbosun.actor; otherwise it is the role.
create function dba_ops.operators_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
    if before is not distinct from after then
        return null;
    end if;
    insert into dba_ops.audit_log (id, instance_id, at, actor, action, object, detail)
    values (gen_random_uuid(), '00000000-0000-0000-0000-000000000000', now(),
        coalesce(nullif(current_setting('pgbosun.actor', true), ''), session_user),
        case tg_table_name when 'operators' then 'operator ' else 'operator group ' end
            || case tg_op when 'INSERT' then 'added' when 'DELETE' then 'removed' else 'changed' end,
        coalesce(after, before) ->> case tg_table_name when 'operators' then 'email' else 'group_name' end,
        jsonb_strip_nulls(jsonb_build_object('before', before, 'after', after))::text);
    perform pg_notify('pgbosun_operators', '');
    return null;
end
$$;
comment on function dba_ops.operators_changed() is 'Writes down who changed operators or groups, and tells every daemon.';
create trigger operators_changed after insert or update or delete on dba_ops.operators
    for each row execute function dba_ops.operators_changed();
create trigger operator_groups_changed after insert or update or delete on dba_ops.operator_groups
    for each row execute function dba_ops.operators_changed();
comment on column dba_ops.audit_log.instance_id is 'The installation; all zeros for what was changed in this database itself.';
