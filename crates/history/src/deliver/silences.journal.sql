-- Rows that changed, as JSON.
select json_object('id', id, 'cluster', cluster, 'job', job, 'object', object, 'reason', reason,
    'created_by', created_by, 'created_at', created_at, 'until_at', until_at, 'ended_at', ended_at)
from changes
join silences on id = changes.key
where table_name = 'silences' and seq > ? and seq <= ?
order by seq
