-- What the server did between two moments, for reports; the words of its statements; the counters as they stood last.
create table samples (
    cluster text not null,
    topic   text not null,
    span    text not null check (span in ('sample', 'hour', 'day')),
    at      text not null,
    seconds real not null,
    rows    text not null,
    primary key (cluster, topic, span, at)
) strict;
create index samples_by_time on samples (span, at);

create table queries (
    cluster text not null,
    query   text not null,
    text    text not null,
    seen_at text not null,
    primary key (cluster, query)
) strict, without rowid;

-- Not delivered: only the next sample needs them.
create table sample_counters (
    job      text primary key,
    counters blob not null
) strict;

create trigger samples_added after insert on samples begin
    delete from changes where table_name = 'samples' and key = json_array(new.cluster, new.topic, new.span, new.at);
    insert into changes (table_name, key) values ('samples', json_array(new.cluster, new.topic, new.span, new.at));
end;
create trigger samples_removed after delete on samples begin
    delete from changes where table_name = 'samples' and key = json_array(old.cluster, old.topic, old.span, old.at);
end;
create trigger queries_added after insert on queries begin
    delete from changes where table_name = 'queries' and key = json_array(new.cluster, new.query);
    insert into changes (table_name, key) values ('queries', json_array(new.cluster, new.query));
end;
create trigger queries_removed after delete on queries begin
    delete from changes where table_name = 'queries' and key = json_array(old.cluster, old.query);
end;
