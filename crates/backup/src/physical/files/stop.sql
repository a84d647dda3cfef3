-- false: the WAL is streamed or awaited by us
select /* pgbosun */ stopped.lsn::text,
       stopped.labelfile,
       case
           when pg_catalog.pg_is_in_recovery()
               then (select min_recovery_end_timeline from pg_catalog.pg_control_recovery())
           else (select timeline_id from pg_catalog.pg_control_checkpoint())
       end
from pg_catalog.pg_backup_stop(false) as stopped
