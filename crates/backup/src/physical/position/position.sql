select pg_catalog.left(pg_catalog.pg_walfile_name(lsn), 8), lsn::text
  from pg_catalog.pg_current_wal_flush_lsn() lsn
