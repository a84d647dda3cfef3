select name, bytes::float8, wasted::float8
from estimated
where wasted > 0.3 * bytes
order by wasted desc
limit 50
