select /* pgbosun */ array[coalesce(wait_event_type, 'CPU'), coalesce(wait_event, 'at work')] as key,
       array[pg_catalog.count(*)]::float8[] as values
from pg_catalog.pg_stat_activity
where state = 'active' and backend_type in ('client backend', 'parallel worker') and pid <> pg_catalog.pg_backend_pid()
group by 1
