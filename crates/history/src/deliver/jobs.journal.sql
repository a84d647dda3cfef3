-- Rows that changed, as JSON.
select json_object('name', name, 'kind', kind, 'cluster', cluster, 'schedule', schedule, 'time_zone', time_zone,
    'configured', json(iif(configured, 'true', 'false')), 'paused_at', paused_at, 'paused_by', paused_by,
    'pause_reason', pause_reason)
from changes
join jobs on name = changes.key
where table_name = 'jobs' and seq > ? and seq <= ?
order by seq
