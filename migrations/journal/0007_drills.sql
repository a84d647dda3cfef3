-- Whether one table could be taken out of a restored server, where that was asked for, and how long it took.
alter table restore_tests add column extracted integer;
alter table restore_tests add column extract_seconds real;
