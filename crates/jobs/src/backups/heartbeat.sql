-- Whose the table and its schema are, where that is neither our own role nor a superuser.
select what, owner.rolname::text
from (select pg_catalog.format('schema %I', n.nspname) as what, n.nspowner as owner
      from pg_catalog.pg_namespace n where n.nspname = $1
      union all
      select pg_catalog.format('table %I.%I', n.nspname, c.relname), c.relowner
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relname = $2) as parts
join pg_catalog.pg_roles named on named.oid = parts.owner
join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
join pg_catalog.pg_roles owner on owner.oid = case named.rolname when 'pg_database_owner' then d.datdba else named.oid end
where not owner.rolsuper and owner.rolname <> current_user
limit 1
