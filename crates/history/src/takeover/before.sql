-- Operators that scripts kept in tables of these names make way for the migrations, once.
do /* pgbosun */ $$
begin
    if pg_catalog.to_regclass('dba_ops._sqlx_migrations') is null
       and pg_catalog.to_regclass('dba_ops.operators') is not null
       and pg_catalog.to_regclass('dba_ops.operator_groups') is not null then
        -- Fails here where a column is not what it should be, before anything was renamed.
        perform o.operator_id, o.email::varchar(255), o.name::varchar(100), o.active::boolean, g.description::text, g.active::boolean
        from dba_ops.operators o join dba_ops.operator_groups g on g.group_name::varchar(50) = o.group_name::varchar(50);
        alter table dba_ops.operators rename to operators_to_take_over;
        alter table dba_ops.operator_groups rename to operator_groups_to_take_over;
    end if;
end
$$
