select pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())
from (select pg_catalog.pg_create_restore_point('pgbosun check')) as something_to_archive
