-- Rows that changed, as JSON.
select json_object('id', id, 'run_id', run_id, 'cluster', cluster, 'repository', repository, 'label', label,
    'started_at', started_at, 'total_seconds', total_seconds, 'restore_seconds', restore_seconds,
    'recovery_seconds', recovery_seconds, 'check_seconds', check_seconds,
    'recovery_point_age_seconds', recovery_point_age_seconds, 'databases', databases, 'tables', tables, 'rows', rows,
    'passed', json(iif(passed, 'true', 'false')), 'detail', detail, 'find_seconds', find_seconds, 'target', target,
    'recovered_to', recovered_to, 'extracted', json(iif(extracted, 'true', iif(extracted is null, 'null', 'false'))),
    'extract_seconds', extract_seconds)
from changes
join restore_tests on id = changes.key
where table_name = 'restore_tests' and seq > ? and seq <= ?
order by seq
