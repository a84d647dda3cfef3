-- Rows that changed, as JSON.
select json_object('id', id, 'job', job, 'kind', kind, 'cluster', cluster, 'trigger', trigger, 'state', state,
    'scheduled_for', scheduled_for, 'started_at', started_at, 'finished_at', finished_at, 'attempts', attempts,
    'summary', summary, 'error', error)
from changes
join runs on id = changes.key
where table_name = 'job_runs' and seq > ? and seq <= ?
order by seq
