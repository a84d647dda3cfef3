select /* pgbosun */ name, own, template
from databases
where connectable
order by name
