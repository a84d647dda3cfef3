-- Backups that build upon others, and how far a restore test recovered.
alter table dba_ops.backups add column parent text;
comment on column dba_ops.backups.parent is 'The backup an incremental one builds upon.';
comment on column dba_ops.backups.kind is 'full or incremental.';
alter table dba_ops.restore_tests
    add column find_seconds double precision not null default 0,
    add column target text not null default 'the backup''s own end',
    add column recovered_to timestamptz;
comment on column dba_ops.restore_tests.find_seconds is 'Choosing the backup and checking that the WAL reaches.';
comment on column dba_ops.restore_tests.target is 'How far it was to recover.';
comment on column dba_ops.restore_tests.recovered_to is 'The newest transaction that was recovered.';
