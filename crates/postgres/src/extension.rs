//! Extensions whose functions we call.
//!
//! Invariant (C39): a function is called only where nobody but a superuser or our own role can put another one in its place.

use crate::Error;
use sqlx::PgConnection;

/// In SQL, the name of the role to which what has this owner belongs, where that is neither a superuser nor the role of the session:
/// it can rename a schema, at any moment, and put another in its place. A database comes with a schema public that belongs to
/// whoever owns the database (15 and newer).
#[macro_export]
macro_rules! stranger {
    ($owner:literal) => {
        concat!(
            "(select r.rolname::text
  from pg_catalog.pg_roles named
  join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
  join pg_catalog.pg_roles r on r.oid = case named.rolname when 'pg_database_owner' then d.datdba else named.oid end
  where named.oid = ",
            $owner,
            " and not r.rolsuper and r.rolname <> current_user)"
        )
    };
}

const FIND: &str = concat!(
    "select /* pgbosun */ pg_catalog.quote_ident(n.nspname) as schema,
       array(select p.proname::text from pg_catalog.pg_proc p where p.pronamespace = n.oid
             and exists (select from pg_catalog.pg_depend d
                         where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
                           and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid)) as functions,
       ",
    stranger!("n.nspowner"),
    " as stranger
from pg_catalog.pg_extension e
join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = $1"
);

/// An extension of the database.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Extension {
    schema: String,
    functions: Vec<String>,
    stranger: Option<String>,
}

impl Extension {
    /// Looks for it.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    pub async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Self>, Error> {
        let asked = sqlx::query_as(FIND).bind(name).fetch_optional(connection).await;
        asked.map_err(|source| Error::Query { what: format!("look up the extension {name}"), source })
    }

    /// Its schema, as SQL writes it.
    ///
    /// # Errors
    /// Whose the schema is, where somebody might put other functions into the place of the extension's.
    pub fn schema(&self) -> Result<&str, ForeignSchema> {
        match &self.stranger {
            None => Ok(&self.schema),
            Some(owner) => Err(ForeignSchema { schema: self.schema.clone(), owner: owner.clone() }),
        }
    }

    /// Whether it has a function of this name.
    pub fn has(&self, function: &str) -> bool {
        self.functions.iter().any(|known| known == function)
    }
}

/// The schema of an extension belongs to a role that is neither a superuser nor ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its schema {schema} belongs to {owner}, who can replace its functions with others that would run with pgbosun's rights"
)]
pub struct ForeignSchema {
    /// The schema, as SQL writes it.
    pub schema: String,
    /// Its owner.
    pub owner: String,
}

impl ForeignSchema {
    /// What to do.
    pub fn remedy(extension: &str) -> String {
        format!("CREATE SCHEMA {extension}; ALTER EXTENSION {extension} SET SCHEMA {extension};")
    }
}
