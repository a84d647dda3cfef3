select pg_catalog.encode(pg_catalog.sha256(pg_catalog.pg_read_binary_file('pg_wal/' || $1, 0, $2, true)), 'hex')
