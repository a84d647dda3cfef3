-- What an alert says besides its one line, each part as what it is (JSON). Where it is empty, detail is all there is.
alter table alerts add column parts text not null default '';
