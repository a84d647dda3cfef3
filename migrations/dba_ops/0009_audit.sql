-- From where somebody did something, and what came of it.
alter table dba_ops.audit_log
    add column origin text not null default '',
    add column outcome text not null default '';
comment on table dba_ops.audit_log is
    'Who changed what, from where, and what came of it: restores, backups that were removed, kept or copied, jobs, alerts, operators, reloads.';
comment on column dba_ops.audit_log.actor is
    'Who: a user, or "anna as postgres" where one became another; pgbosun for its own jobs, SIGHUP for a reload.';
comment on column dba_ops.audit_log.origin is 'From where: the control socket or a command, with process and terminal; SQL with its address; a job.';
comment on column dba_ops.audit_log.outcome is 'What came of it: begun, done, refused or failed with the reason; docs/security.md has all of them.';

create or replace function dba_ops.operators_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    before jsonb := case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end;
    after jsonb := case when tg_op in ('INSERT', 'UPDATE') then to_jsonb(new) end;
begin
    if before is not distinct from after and tg_op <> 'TRUNCATE' then
        return null;
    end if;
    insert into dba_ops.audit_log (id, instance_id, at, actor, action, object, detail, origin, outcome)
    values (gen_random_uuid(), '00000000-0000-0000-0000-000000000000', now(),
        coalesce(nullif(current_setting('pgbosun.actor', true), ''), session_user),
        case tg_table_name when 'operators' then 'operator ' else 'operator group ' end
            || case tg_op when 'INSERT' then 'added' when 'UPDATE' then 'changed' else 'removed' end,
        coalesce(coalesce(after, before) ->> case tg_table_name when 'operators' then 'email' else 'group_name' end, 'all'),
        jsonb_strip_nulls(jsonb_build_object('before', before, 'after', after))::text,
        coalesce(nullif(current_setting('pgbosun.origin', true), '') || ', ', '')
            || 'SQL from ' || coalesce(host(inet_client_addr()), 'a local socket') || ' as ' || session_user,
        'done');
    perform pg_notify('pgbosun_operators', '');
    return null;
end
$$;
create trigger operators_truncated after truncate on dba_ops.operators
    for each statement execute function dba_ops.operators_changed();
create trigger operator_groups_truncated after truncate on dba_ops.operator_groups
    for each statement execute function dba_ops.operators_changed();
