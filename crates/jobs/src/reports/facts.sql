select pg_catalog.current_setting('server_version') as version,
       pg_catalog.pg_postmaster_start_time() as started,
       pg_catalog.pg_is_in_recovery() as standby,
       (select pg_catalog.count(*) from pg_catalog.pg_database where not datistemplate) as databases,
       (select coalesce(pg_catalog.sum(pg_catalog.pg_database_size(oid)), 0)::bigint from pg_catalog.pg_database
        where pg_catalog.has_database_privilege(oid, 'connect')) as bytes
