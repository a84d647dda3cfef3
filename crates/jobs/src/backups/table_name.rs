//! A table named in the configuration: the heartbeat's, or one that a restore test takes out.

use pgbosun_core::config::{KnownNames, RawValue, Refusal, Setting};

/// A table as database, schema and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Its database.
    pub database: String,
    /// Its schema.
    pub(super) schema: String,
    /// Its name.
    pub(super) name: String,
}

impl Setting for TableName {
    const EXPECTS: &'static str = "a table in the form \"database.schema.table\"";

    fn read(value: &RawValue, _: &KnownNames) -> Result<Self, Refusal> {
        let parts: Vec<_> = value.as_str().unwrap_or_default().split('.').collect();
        match parts.as_slice() {
            [database, schema, name] if parts.iter().all(|part| !part.is_empty()) => {
                Ok(Self { database: (*database).into(), schema: (*schema).into(), name: (*name).into() })
            }
            _ => Err(Refusal::expected(Self::EXPECTS)),
        }
    }
}

impl TableName {
    /// Its name within its database, for SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

/// A name as SQL has it.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
