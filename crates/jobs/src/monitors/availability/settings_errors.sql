select coalesce(name, '') as name, coalesce(sourcefile, '') as file, coalesce(sourceline, 0) as line, error
from pg_catalog.pg_file_settings
-- What only waits for a restart is told as that.
where error <> 'setting could not be applied'
  -- That a setting is gone which counts until the next start has neither name nor place, and is told as that, too.
  and (name is not null or sourcefile is not null)
order by sourcefile, sourceline
