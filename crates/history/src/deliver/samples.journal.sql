-- Rows that changed, as JSON.
select json_object('cluster', cluster, 'topic', topic, 'span', span, 'at', at, 'seconds', seconds, 'rows', json(rows))
from changes
join samples on cluster = changes.key ->> 0 and topic = changes.key ->> 1 and span = changes.key ->> 2
    and at = changes.key ->> 3
where table_name = 'samples' and seq > ? and seq <= ?
order by seq
