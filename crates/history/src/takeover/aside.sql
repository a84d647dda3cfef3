-- What is left of a schema that lacks something keeps its rows under another name, which pgbosun.aside tells. Of its groups and
-- operators the columns that are left go into a new schema.
do $$
declare
    aside text := 'dba_ops_' || pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone 'UTC', 'YYYYMMDD_HH24MISS');
    wanted text[];
    kept record;
begin
    execute pg_catalog.format('alter schema dba_ops rename to %I', aside);
    perform pg_catalog.set_config('pgbosun.aside', aside, true);
    create schema dba_ops;
    for kept in
        select * from (values
            ('operator_groups', array['group_name varchar(50)', 'description text', 'active boolean']),
            ('operators', array['operator_id integer', 'group_name varchar(50)', 'email varchar(255)', 'name varchar(100)', 'active boolean'])
        ) as t (name, columns)
    loop
        -- The takeover reads all of these columns: those that are gone are empty.
        select pg_catalog.array_agg(
            case when a.attname is null
                then pg_catalog.format('null::%s as %I', pg_catalog.split_part(c, ' ', 2), pg_catalog.split_part(c, ' ', 1))
                else pg_catalog.format('%I', a.attname) end)
        into wanted
        from pg_catalog.unnest(kept.columns) c
        left join pg_catalog.pg_attribute a
               on a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', aside, kept.name))
              and a.attname::text = pg_catalog.split_part(c, ' ', 1) and a.attnum > 0 and not a.attisdropped;
        execute pg_catalog.format('create table dba_ops.%I as select %s %s', kept.name, pg_catalog.array_to_string(wanted, ', '),
            case when pg_catalog.to_regclass(pg_catalog.format('%I.%I', aside, kept.name)) is null then 'where false'
                else pg_catalog.format('from %I.%I', aside, kept.name) end);
    end loop;
end
$$
