//! Whose a schema is, and what lies in it.
//!
//! Invariant (C39): triggers, defaults and rules of a table run with the rights of whoever writes into it, and a view's functions with those
//! of whoever reads it, so only what nobody else can change or exchange is touched.

use crate::{Error, stranger};
use sqlx::PgConnection;

const FIND: &str = concat!(
    "select /* pgbosun */ what, stranger
from (select pg_catalog.format('schema %I', n.nspname) as what, ",
    stranger!("n.nspowner"),
    " as stranger
      from pg_catalog.pg_namespace n where n.nspname = $1
      union all
      select pg_catalog.format('%s %I.%I', case c.relkind when 'v' then 'view' else 'table' end, n.nspname, c.relname), ",
    stranger!("c.relowner"),
    "
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relname = coalesce($2, c.relname) and c.relkind in ('r', 'p', 'v', 'f', 'm')) as parts
where stranger is not null
limit 1"
);

/// What belongs to a role that is neither ours nor a superuser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, sqlx::FromRow)]
#[error(
    "{what} belongs to {stranger}, whose triggers would run with pgbosun's rights: make the role of this connection its owner \
     (\"alter {what} owner to …\")"
)]
pub struct Foreign {
    what: String,
    stranger: String,
}

impl Foreign {
    /// Looks at a schema, and a table in it or all there are.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn find(connection: &mut PgConnection, schema: &str, table: Option<&str>) -> Result<Option<Self>, Error> {
        let asked = sqlx::query_as(FIND).bind(schema).bind(table).fetch_optional(connection).await;
        asked.map_err(|source| Error::Query { what: format!("look up the owner of schema {schema}"), source })
    }
}
