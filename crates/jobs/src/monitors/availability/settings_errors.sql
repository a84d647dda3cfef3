select /* pgbosun */ coalesce(f.name, '') as name, coalesce(f.sourcefile, '') as file, coalesce(f.sourceline, 0) as line, f.error
from pg_catalog.pg_file_settings f
left join pg_catalog.pg_settings s on s.name = f.name
where f.error is not null
  -- Settings that only wait for a restart are reported as such. A setting that is gone has neither name nor place.
  and not coalesce(s.pending_restart, false)
  and (f.name is not null or f.sourcefile is not null)
order by f.sourcefile, f.sourceline
