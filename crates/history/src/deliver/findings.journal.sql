-- Rows that changed, as JSON.
select json_object('id', id, 'run_id', run_id, 'job', job, 'cluster', cluster, 'object', object,
    'severity', severity, 'summary', summary, 'meaning', meaning, 'advice', advice, 'detail', detail,
    'seen_at', seen_at)
from changes
join findings on id = changes.key
where table_name = 'findings' and seq > ? and seq <= ?
order by seq
