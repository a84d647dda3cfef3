select /* pgbosun */ pg_catalog.pg_backup_start($1, $2)::text
