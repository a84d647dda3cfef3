-- Where the migrations could not begin, the tables of the scripts get their names back.
do /* pgbosun */ $$
begin
    if pg_catalog.to_regclass('dba_ops.operators') is null
       and pg_catalog.to_regclass('dba_ops.operators_to_take_over') is not null then
        alter table dba_ops.operators_to_take_over rename to operators;
        alter table dba_ops.operator_groups_to_take_over rename to operator_groups;
        -- Begun, and nothing of it there: the next try begins anew.
        drop table if exists dba_ops._sqlx_migrations;
    end if;
end
$$
