-- Sizes are for those who may connect or read all statistics. One that was dropped meanwhile has none.
select /* pgbosun */ name, bytes, template
from databases, pg_catalog.pg_database_size(oid) as bytes
where (connectable or pg_catalog.pg_has_role('pg_read_all_stats', 'usage')) and bytes is not null
order by bytes desc, name
