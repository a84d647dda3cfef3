-- Why an alert is over where nobody saw it to be: somebody said so, or its job looks no more.
alter table alerts add column resolution text;
