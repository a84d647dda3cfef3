-- Rows that changed, as JSON.
select json_object('cluster', cluster, 'repository', repository, 'label', label, 'kind', kind, 'state', state,
    'system_id', system_id, 'started_at', started_at, 'finished_at', finished_at, 'start_lsn', start_lsn,
    'stop_lsn', stop_lsn, 'timeline', timeline, 'bytes', bytes, 'stored_bytes', stored_bytes, 'run_id', run_id,
    'changed_at', changed_at, 'parent', parent)
from changes
join backups on cluster = changes.key ->> 0 and repository = changes.key ->> 1 and label = changes.key ->> 2
where table_name = 'backups' and seq > ? and seq <= ?
order by seq
