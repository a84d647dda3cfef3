-- Rows that changed, as JSON.
select json_object('cluster', cluster, 'job', job, 'database', database, 'topic', topic, 'object', object,
    'reason', reason, 'figure', figure, 'unit', unit, 'statement', statement, 'first_seen_at', first_seen_at,
    'last_seen_at', last_seen_at, 'gone_at', gone_at, 'run_id', run_id)
from changes
join recommendations on cluster = changes.key ->> 0 and job = changes.key ->> 1 and database = changes.key ->> 2
    and topic = changes.key ->> 3 and object = changes.key ->> 4
where table_name = 'recommendations' and seq > ? and seq <= ?
order by seq
