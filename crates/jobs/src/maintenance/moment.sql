-- The time, the newest transaction and the end of the WAL. The time is that of the statement, not of the transaction.
select /* pgbosun */ pg_catalog.clock_timestamp() as at,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint as transaction,
       (pg_catalog.pg_current_wal_insert_lsn() - '0/0')::bigint as lsn
