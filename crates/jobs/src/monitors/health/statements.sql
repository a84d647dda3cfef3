-- C39: only where nobody else can put another view in its place. Asked through XML, since the view is in whatever schema the extension is in, and may not be there at all.
select (select (pg_catalog.xpath('//dealloc/text()',
                    pg_catalog.query_to_xml(pg_catalog.format('select dealloc from %I.pg_stat_statements_info', n.nspname),
                                            false, true, '')))[1]::text::bigint
        from pg_catalog.pg_extension e
        join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        join pg_catalog.pg_roles named on named.oid = n.nspowner
        join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
        join pg_catalog.pg_roles owner
            on owner.oid = case named.rolname when 'pg_database_owner' then d.datdba else named.oid end
        where e.extname = 'pg_stat_statements' and (owner.rolsuper or owner.rolname = current_user)
          and pg_catalog.to_regclass(pg_catalog.format('%I.pg_stat_statements_info', n.nspname)) is not null) as evicted,
       exists (select from pg_catalog.pg_extension where extname = 'pg_stat_statements') as installed,
       pg_catalog.current_setting('pg_stat_statements.max', true)::bigint as maximum
