-- Why an alert is over where nobody saw it to be.
alter table dba_ops.alerts add column resolution text;
comment on column dba_ops.alerts.resolution is
    'Why it is over where nobody saw it to be: somebody said so, or its job looks no more.';
