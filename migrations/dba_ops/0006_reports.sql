-- Messages may carry a report.
alter table dba_ops.notifications
    drop constraint notifications_notice_check,
    add constraint notifications_notice_check
        check (notice in ('opened', 'changed', 'reminder', 'acknowledged', 'resolved', 'test', 'report'));
comment on column dba_ops.notifications.notice is
    'What it tells: opened, changed, reminder, acknowledged, resolved, test, report.';
