select /* pgbosun */ pg_catalog.pg_current_logfile(format)
from pg_catalog.unnest(array['stderr', 'csvlog']
                       || case when pg_catalog.current_setting('server_version_num')::int >= 150000
                               then array['jsonlog'] else array[]::text[] end) as format
