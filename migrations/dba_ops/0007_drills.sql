-- Whether one table could be taken out of a restored server, and how long it took.
alter table dba_ops.restore_tests
    add column extracted boolean,
    add column extract_seconds double precision;
comment on column dba_ops.restore_tests.extracted is
    'Whether one table could be dumped out of the restored server; null where that was not asked for.';
comment on column dba_ops.restore_tests.extract_seconds is 'How long that took.';
