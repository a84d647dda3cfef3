select coalesce(line_number, 0) as line,
       coalesce(type, '') as kind,
       coalesce(pg_catalog.array_to_string(database, ','), '') as database,
       coalesce(pg_catalog.array_to_string(user_name, ','), '') as users,
       coalesce(address, '') as address,
       coalesce(netmask, '') as netmask,
       coalesce(auth_method, '') as method,
       coalesce(pg_catalog.array_to_string(options, ','), '') as options,
       coalesce(error, '') as error
from pg_catalog.pg_hba_file_rules
