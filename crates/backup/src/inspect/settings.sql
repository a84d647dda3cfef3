select /* pgbosun */ name, setting from pg_catalog.pg_settings where name = any ($1)
