-- A command that waits for archive_mode stands in the files alone; the last word in them counts.
with said as (
    select name, setting
    from (select name, setting, pg_catalog.row_number() over (partition by name order by seqno desc) as place
          from pg_catalog.pg_file_settings
          where name in ('archive_command', 'archive_library') and error is null) settings
    where place = 1 and pg_catalog.btrim(setting) <> ''
)
select pg_catalog.current_setting('archive_mode') as archive_mode,
       (select setting from said where setting !~ 'pgbosun.* wal push' limit 1) as other,
       exists (select from said where setting ~ 'pgbosun.* wal push') as ours,
       case when pg_catalog.current_setting('logging_collector')::bool
            then pg_catalog.current_setting('log_directory') end as log_directory
