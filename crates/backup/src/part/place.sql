-- Whether a database has this schema, and the table in it, and whether the role (if one is named) may create there.
select /* pgbosun */
    exists (select from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) $1),
    exists (
        select from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
        where n.nspname operator(pg_catalog.=) $1 and c.relname operator(pg_catalog.=) $2
    ),
    coalesce((
        select pg_catalog.has_schema_privilege($3::pg_catalog.name, n.oid, 'create')
        from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) $1
    ), true)
