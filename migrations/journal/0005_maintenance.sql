-- What maintenance did to each object, and what is recommended. Each table's rows for dba_ops are asked for by the program.
drop view delivered;

create table maintenance (
    id           text primary key,
    run_id       text not null,
    job          text not null,
    cluster      text not null,
    database     text not null,
    object       text not null,
    action       text not null,
    result       text not null check (result in ('done', 'skipped', 'failed')),
    reason       text not null,
    bytes_before integer,
    bytes_after  integer,
    wal_bytes    integer,
    started_at   text not null,
    seconds      real not null
) strict;
create index maintenance_by_time on maintenance (started_at);
create index maintenance_by_run on maintenance (run_id);

create table recommendations (
    cluster       text not null,
    job           text not null,
    database      text not null,
    topic         text not null,
    object        text not null,
    reason        text not null,
    figure        real not null,
    unit          text not null,
    statement     text not null,
    first_seen_at text not null,
    last_seen_at  text not null,
    gone_at       text,
    run_id        text not null,
    primary key (cluster, job, database, topic, object)
) strict, without rowid;

create trigger maintenance_added after insert on maintenance begin
    delete from changes where table_name = 'maintenance' and key = new.id;
    insert into changes (table_name, key) values ('maintenance', new.id);
end;
create trigger maintenance_removed after delete on maintenance begin
    delete from changes where table_name = 'maintenance' and key = old.id;
end;
create trigger recommendations_added after insert on recommendations begin
    delete from changes where table_name = 'recommendations'
        and key = json_array(new.cluster, new.job, new.database, new.topic, new.object);
    insert into changes (table_name, key)
        values ('recommendations', json_array(new.cluster, new.job, new.database, new.topic, new.object));
end;
create trigger recommendations_changed after update on recommendations begin
    delete from changes where table_name = 'recommendations'
        and key = json_array(new.cluster, new.job, new.database, new.topic, new.object);
    insert into changes (table_name, key)
        values ('recommendations', json_array(new.cluster, new.job, new.database, new.topic, new.object));
end;
create trigger recommendations_removed after delete on recommendations begin
    delete from changes where table_name = 'recommendations'
        and key = json_array(old.cluster, old.job, old.database, old.topic, old.object);
end;
