-- They come back, under the names of the built-in groups where those differ in case alone; the old tables stay as they were,
-- under another name.
do /* pgbosun */ $$
begin
    if pg_catalog.to_regclass('dba_ops.operators_to_take_over') is null then
        return;
    end if;
    create temporary table group_names on commit drop as
        select old.group_name as old_name, coalesce(known.group_name, old.group_name) as new_name,
               old.description, coalesce(old.active, true) as active
        from dba_ops.operator_groups_to_take_over old
        left join dba_ops.operator_groups known
               on pg_catalog.lower(known.group_name) = pg_catalog.lower(old.group_name);
    insert into dba_ops.operator_groups (group_name, description, active)
        select distinct on (new_name) new_name, description, active from pg_temp.group_names
        order by new_name, active desc, old_name
        on conflict (group_name) do update
        set description = coalesce(excluded.description, operator_groups.description), active = excluded.active;
    insert into dba_ops.operators (group_name, email, name, active)
        select n.new_name, o.email, o.name, coalesce(o.active, true)
        from dba_ops.operators_to_take_over o join pg_temp.group_names n on n.old_name = o.group_name
        order by o.operator_id
        on conflict (group_name, (pg_catalog.lower(email::text))) do nothing;
    alter table dba_ops.operators_to_take_over rename to operators_of_scripts;
    alter table dba_ops.operator_groups_to_take_over rename to operator_groups_of_scripts;
end
$$
