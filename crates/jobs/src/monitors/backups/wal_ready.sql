select /* pgbosun */ pg_catalog.count(*) as ready,
       (pg_catalog.array_agg(name order by modification))[1] as oldest,
       extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(modification))::float8 as age
from pg_catalog.pg_ls_archive_statusdir()
where name like '%.ready'
