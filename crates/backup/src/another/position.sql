select pg_catalog.pg_walfile_name(lsn), lsn::text from pg_catalog.pg_current_wal_flush_lsn() lsn
