select /* pgbosun */ name, setting as file
from pg_catalog.pg_settings
where name in ('ssl_cert_file', 'ssl_ca_file')
  and setting <> ''
  and (select setting from pg_catalog.pg_settings where name = 'ssl') = 'on'
