select /* pgbosun */ array[backend_type, object, context] as key,
       array[coalesce(reads, 0), coalesce(read_time, 0), coalesce(writes, 0), coalesce(write_time, 0), coalesce(extends, 0),
             coalesce(fsyncs, 0), coalesce(hits, 0), coalesce(evictions, 0)]::float8[] as values
from pg_catalog.pg_stat_io
where coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0) + coalesce(hits, 0) > 0
