-- What is left of a schema that lacks something keeps its rows under another name, which pgbosun.aside tells. Its groups and operators go
-- into a new schema, as far as they have a name and an address.
do /* pgbosun */ $$
declare
    aside text := 'dba_ops_' || pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone 'UTC', 'YYYYMMDD_HH24MISS');
    kept record;
    wanted text;
    has_key boolean;
begin
    execute pg_catalog.format('alter schema dba_ops rename to %I', aside);
    perform pg_catalog.set_config('pgbosun.aside', aside, true);
    create schema dba_ops;
    for kept in
        select * from (values
            ('operator_groups', array['group_name varchar(50)', 'description text', 'active boolean'], array['group_name']),
            ('operators', array['operator_id integer', 'group_name varchar(50)', 'email varchar(255)', 'name varchar(100)',
                'active boolean'], array['group_name', 'email'])
        ) as t (name, columns, key)
    loop
        -- The takeover reads all of these columns: those that are gone are empty, and without its key a row says nothing.
        select pg_catalog.string_agg(
                pg_catalog.format(case when a.attname is null then 'null::%1$s as %2$I' else '%2$I::%1$s' end,
                    pg_catalog.split_part(c, ' ', 2), pg_catalog.split_part(c, ' ', 1)), ', '),
            pg_catalog.bool_and(a.attname is not null or pg_catalog.split_part(c, ' ', 1) <> all (kept.key))
        into wanted, has_key
        from pg_catalog.unnest(kept.columns) c
        left join pg_catalog.pg_attribute a
               on a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', aside, kept.name))
              and a.attname::text = pg_catalog.split_part(c, ' ', 1) and a.attnum > 0 and not a.attisdropped;
        execute pg_catalog.format('create table dba_ops.%I as select %s', kept.name, wanted)
            || case when pg_catalog.to_regclass(pg_catalog.format('%I.%I', aside, kept.name)) is null then ''
                else pg_catalog.format(' from %I.%I', aside, kept.name) end
            || case when has_key
                then pg_catalog.format(' where (%s) is not null', pg_catalog.array_to_string(kept.key, ', '))
                else ' where false' end;
    end loop;
    -- Groups that operators are in, where the table of groups has them no more.
    insert into dba_ops.operator_groups (group_name)
        select distinct group_name from dba_ops.operators
        where group_name not in (select group_name from dba_ops.operator_groups);
end
$$
