-- Rows of the journal, as a JSON array, into restore_tests. Idempotent: the newest version of a row wins.
insert /* pgbosun */ into dba_ops.restore_tests (id, instance_id, run_id, cluster, repository, label, started_at, total_seconds,
    restore_seconds, recovery_seconds, check_seconds, recovery_point_age_seconds, databases, tables, rows, passed,
    detail, find_seconds, target, recovered_to, extracted, extract_seconds)
select r.id, r.instance_id, r.run_id, r.cluster, r.repository, r.label, r.started_at, r.total_seconds,
    r.restore_seconds, r.recovery_seconds, r.check_seconds, r.recovery_point_age_seconds, r.databases, r.tables,
    r.rows, r.passed, r.detail, coalesce(r.find_seconds, 0), coalesce(r.target, ''), r.recovered_to,
    r.extracted, r.extract_seconds
from pg_catalog.jsonb_array_elements($1::jsonb) as e (row),
     pg_catalog.jsonb_populate_record(null::dba_ops.restore_tests, e.row ||
    pg_catalog.jsonb_build_object('instance_id', $2::uuid)) as r
on conflict (id) do update
set (instance_id, run_id, cluster, repository, label, started_at, total_seconds, restore_seconds, recovery_seconds,
    check_seconds, recovery_point_age_seconds, databases, tables, rows, passed, detail, find_seconds, target, recovered_to,
    extracted, extract_seconds)
  = (excluded.instance_id, excluded.run_id, excluded.cluster, excluded.repository, excluded.label,
    excluded.started_at, excluded.total_seconds, excluded.restore_seconds, excluded.recovery_seconds,
    excluded.check_seconds, excluded.recovery_point_age_seconds, excluded.databases, excluded.tables, excluded.rows,
    excluded.passed, excluded.detail, excluded.find_seconds, excluded.target, excluded.recovered_to,
    excluded.extracted, excluded.extract_seconds)
