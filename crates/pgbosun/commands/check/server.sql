select pg_catalog.current_setting('server_version') as version,
       pg_catalog.current_setting('server_version_num')::int as version_num,
       current_user::text as role,
       r.rolreplication or r.rolsuper as may_replicate,
       pg_catalog.pg_has_role('pg_read_all_stats', 'usage')
           and pg_catalog.pg_has_role('pg_read_all_settings', 'usage') as may_look,
       pg_catalog.current_setting('wal_level') as wal_level,
       pg_catalog.current_setting('max_wal_senders')::int as max_wal_senders,
       pg_catalog.current_setting('max_replication_slots')::int as max_replication_slots,
       pg_catalog.current_setting('data_checksums')::bool as data_checksums,
       pg_catalog.current_setting('log_destination') as log_destination,
       pg_catalog.current_setting('log_line_prefix') as log_line_prefix
from pg_catalog.pg_roles r
where r.rolname = current_user
