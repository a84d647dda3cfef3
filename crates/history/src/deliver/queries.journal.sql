-- Rows that changed, as JSON.
select json_object('cluster', cluster, 'query', query, 'text', text, 'seen_at', seen_at)
from changes
join queries on cluster = changes.key ->> 0 and query = changes.key ->> 1
where table_name = 'queries' and seq > ? and seq <= ?
order by seq
