select /* pgbosun */ coalesce(line_number, 0) as line,
       coalesce(type, '') as kind,
       coalesce(pg_catalog.array_to_string(database, ','), '') as database,
       coalesce(pg_catalog.array_to_string(user_name, ','), '') as users,
       coalesce(address, '') as address,
       coalesce(netmask, '') as netmask,
       coalesce(auth_method, '') as method,
       -- Only a digest of a password leaves the server: enough to see that it changed.
       coalesce((
           select pg_catalog.string_agg(
                      case when option ~ '^(ldapbindpasswd|radiussecrets)='
                           then pg_catalog.split_part(option, '=', 1) || '=' || pg_catalog.left(pg_catalog.encode(
                                    pg_catalog.sha256(pg_catalog.convert_to(option, pg_catalog.getdatabaseencoding())),
                                    'hex'), 16)
                           else option
                      end, ',' order by place)
           from pg_catalog.unnest(options) with ordinality o (option, place)
       ), '') as options,
       coalesce(error, '') as error
from pg_catalog.pg_hba_file_rules
