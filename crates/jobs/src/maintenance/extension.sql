select pg_catalog.quote_ident(n.nspname),
       array(select p.proname::text from pg_catalog.pg_proc p where p.pronamespace = n.oid
             and exists (select from pg_catalog.pg_depend d
                         where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
                           and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid))
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = $1
