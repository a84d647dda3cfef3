-- Rows that changed, as JSON.
select json_object('id', id, 'alert_id', json_extract(alerts, '$[0]'), 'alerts', json(alerts),
    'group_name', group_name, 'channel', channel, 'notice', notice, 'severity', severity, 'subject', subject,
    'state', state, 'attempts', attempts, 'recipients', json(recipients), 'last_error', last_error,
    'created_at', created_at, 'sent_at', sent_at)
from changes
join notifications on id = changes.key
where table_name = 'notifications' and seq > ? and seq <= ?
order by seq
