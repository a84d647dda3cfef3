select coalesce(name, '') as name, coalesce(sourcefile, '') as file, coalesce(sourceline, 0) as line, error
from pg_catalog.pg_file_settings
-- What only waits for a restart is told as that.
where error <> 'setting could not be applied'
order by sourcefile, sourceline
