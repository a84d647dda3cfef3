-- A limit of -2 marks what an interrupted DROP DATABASE left: nobody can connect to it, and some of its files may be gone.
with /* pgbosun */ databases as (
    select oid,
           datname::text as name,
           datname = pg_catalog.current_database() as own,
           datistemplate as template,
           pg_catalog.has_database_privilege(oid, 'connect') as connectable
    from pg_catalog.pg_database
    where datallowconn and datconnlimit <> -2
)
