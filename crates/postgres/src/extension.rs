//! Extensions whose functions we call.
//!
//! Invariant (C39): a function is called only where nobody but a superuser or our own role can put another one in its place.

use crate::Error;
use sqlx::PgConnection;

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
        let asked = sqlx::query_as(include_str!("extension.sql")).bind(name).fetch_optional(connection).await;
        asked.map_err(|source| Error::Query { what: format!("look for the extension {name}"), source })
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
    "its schema {schema} belongs to {owner}, who can put other functions in their place, and they would run with our rights"
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
