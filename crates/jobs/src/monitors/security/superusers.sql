select rolname::text as name,
       pg_catalog.concat_ws(', ',
           case when rolsuper then 'superuser' end,
           case when rolreplication then 'replication' end,
           case when rolbypassrls then 'bypassrls' end,
           case when rolcreaterole then 'createrole' end,
           (select pg_catalog.string_agg(g.rolname::text, ', ' order by g.rolname)
            from pg_catalog.pg_auth_members m
            join pg_catalog.pg_roles g on g.oid = m.roleid
            where m.member = r.oid
              and g.rolname in ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                                'pg_read_all_data', 'pg_write_all_data'))) as powers
from pg_catalog.pg_roles r
where r.rolname !~ '^pg_'
