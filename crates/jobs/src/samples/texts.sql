select /* pgbosun */ distinct on (queryid) queryid::text, pg_catalog.left(query, $2)
from {schema}.pg_stat_statements(true)
where queryid::text = any ($1) and query is not null
order by queryid
