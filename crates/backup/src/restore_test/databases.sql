select datname::text from pg_catalog.pg_database where datallowconn order by 1
