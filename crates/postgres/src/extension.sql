-- An extension, and whether its functions are certainly its own: who owns the schema can rename it, at any moment, and put another in
-- its place. Databases come with a schema public that belongs to whoever owns the database (15 and newer).
select pg_catalog.quote_ident(n.nspname) as schema,
       array(select p.proname::text from pg_catalog.pg_proc p where p.pronamespace = n.oid
             and exists (select from pg_catalog.pg_depend d
                         where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
                           and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid)) as functions,
       case when not owner.rolsuper and owner.rolname <> current_user then owner.rolname::text end as stranger
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
join pg_catalog.pg_roles named on named.oid = n.nspowner
join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
join pg_catalog.pg_roles owner on owner.oid = case named.rolname when 'pg_database_owner' then d.datdba else named.oid end
where e.extname = $1
