-- From where somebody did something, and what came of it.
alter table audit_log add column origin text not null default '';
alter table audit_log add column outcome text not null default '';
