-- Rows that changed, as JSON.
select json_object('id', id, 'run_id', run_id, 'job', job, 'cluster', cluster, 'database', database, 'object', object,
    'action', action, 'result', result, 'reason', reason, 'bytes_before', bytes_before, 'bytes_after', bytes_after,
    'wal_bytes', wal_bytes, 'started_at', started_at, 'seconds', seconds)
from changes
join maintenance on id = changes.key
where table_name = 'maintenance' and seq > ? and seq <= ?
order by seq
