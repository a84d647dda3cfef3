-- What one run of a job leaves the next, apart from the job itself: monitors change it at every look, and nobody else reads it.
create table job_states (
    job   text primary key,
    state text not null                   -- JSON
) strict;
insert into job_states (job, state) select name, state from jobs where state is not null;
alter table jobs drop column state;
