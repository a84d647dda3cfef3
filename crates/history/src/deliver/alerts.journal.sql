-- Rows that changed, as JSON.
select json_object('id', id, 'fingerprint', fingerprint, 'job', job, 'cluster', cluster, 'group_name', group_name,
    'severity', severity, 'state', state, 'reach', reach, 'summary', summary, 'meaning', meaning, 'advice', advice,
    'detail', detail, 'looks', looks, 'opened_at', opened_at, 'changed_at', changed_at, 'seen_at', seen_at,
    'resolved_at', resolved_at, 'run_id', run_id, 'acknowledged_at', acknowledged_at,
    'acknowledged_by', acknowledged_by, 'acknowledgement', acknowledgement, 'notified_at', notified_at,
    'told_severity', told_severity, 'told_worst', told_worst, 'incident_id', incident_id,
    'resolution', resolution)
from changes
join alerts on id = changes.key
where table_name = 'alerts' and seq > ? and seq <= ?
order by seq
