-- Rows that changed, as JSON.
select json_object('id', id, 'at', at, 'actor', actor, 'action', action, 'object', object, 'detail', detail, 'origin', origin,
    'outcome', outcome)
from changes
join audit_log on id = changes.key
where table_name = 'audit_log' and seq > ? and seq <= ?
order by seq
