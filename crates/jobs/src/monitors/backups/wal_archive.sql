-- A server that archives nothing now, because archiving is off or it is a standby, has nothing that fails or waits.
select /* pgbosun */ case pg_catalog.current_setting('archive_mode')
           when 'always' then true
           when 'on' then not pg_catalog.pg_is_in_recovery()
           else false
       end as archiving,
       pg_catalog.current_setting('archive_mode') = 'off' and not pg_catalog.pg_is_in_recovery() as switched_off,
       (select system_identifier::text from pg_catalog.pg_control_system()) as system_id,
       failed_count,
       last_archived_time,
       last_failed_wal,
       last_failed_time,
       -- Only the last outcome counts: a failure followed by a success is over.
       coalesce(last_failed_time > last_archived_time, last_failed_time is not null)
           and last_failed_time is not null as failing
from pg_catalog.pg_stat_archiver
