select name,
       setting,
       coalesce(unit, '') as unit,
       source,
       coalesce(sourcefile, '') as file,
       pending_restart
from pg_catalog.pg_settings
where source not in ('default', 'client', 'session', 'override')
   or pending_restart
order by name
