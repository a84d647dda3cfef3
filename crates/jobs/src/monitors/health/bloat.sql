, wasteful as (
    select name, bytes, wasted
    from estimated
    where wasted > 0.3 * bytes
    order by wasted desc
    limit 50
), unseen as (
    select pg_catalog.count(*) as unseen
    from pg_catalog.pg_class
    where relkind in ('r', 'm') and relpages > 1000 and not pg_catalog.has_table_privilege(oid, 'select')
)
-- At least one row, for the number of tables the role does not see.
select coalesce(name, '') as name, coalesce(bytes, 0)::float8 as bytes, coalesce(wasted, 0)::float8 as wasted, unseen
from unseen
left join wasteful on true
order by wasted desc
