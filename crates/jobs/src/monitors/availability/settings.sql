-- Of settings that may hold a password, only a digest leaves the server: enough to see that they changed.
with /* pgbosun */ own as (
    select *,
           name in ('primary_conninfo', 'archive_command', 'restore_command', 'archive_cleanup_command',
                    'recovery_end_command', 'ssl_passphrase_command')
               or name ~* '\..*(pass|secret|key|token|credential|conninfo)' as secret
    from pg_catalog.pg_settings
    where (source not in ('default', 'client', 'session', 'override') or pending_restart)
      -- Recovery settings mean nothing once recovery has ended.
      and (pg_catalog.pg_is_in_recovery() or name <> 'hot_standby' and name <> 'restore_command' and name !~ '^(recovery_target|recovery_end_|recovery_min_|archive_cleanup_)')
)
select name,
       case when secret and setting <> ''
            then pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(
                     pg_catalog.convert_to(setting, pg_catalog.getdatabaseencoding())), 'hex'), 16)
            else coalesce(setting, '')
       end as setting,
       coalesce(unit, '') as unit,
       source,
       coalesce(sourcefile, '') as file,
       pending_restart,
       secret,
       pg_catalog.pg_has_role('pg_read_all_settings', 'usage')
           and pg_catalog.pg_has_role('pg_read_all_stats', 'usage') as all_seen
from own
order by name
