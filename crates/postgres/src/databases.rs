//! The databases of a cluster: one list for all that go from one to the other or measure them. What an interrupted DROP DATABASE
//! left is never in it; templates are, and who does not want them says so.

/// Asks for the databases that can be connected to, as [`Database`], by name.
pub const DATABASES: &str = concat!(include_str!("databases/databases.sql"), include_str!("databases/names.sql"));

/// Asks for the size of each database, as [`DatabaseBytes`], the largest first.
pub const DATABASE_SIZES: &str = concat!(include_str!("databases/databases.sql"), include_str!("databases/sizes.sql"));

/// A database that can be connected to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Database {
    /// Its name.
    #[sqlx(try_from = "crate::Lossy")]
    pub name: String,
    /// The one that was asked.
    pub own: bool,
    /// It is a template, in which nobody works.
    pub template: bool,
}

/// How large a database is.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DatabaseBytes {
    /// Its name.
    #[sqlx(try_from = "crate::Lossy")]
    pub name: String,
    /// Bytes on disk.
    pub bytes: i64,
    /// It is a template.
    pub template: bool,
}

impl Database {
    /// Those in which people work, the one that was asked first: there is a connection to it already.
    pub fn at_work(mut databases: Vec<Self>) -> Vec<Self> {
        databases.retain(|database| !database.template);
        databases.sort_by_key(|database| !database.own);
        databases
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    fn statements(directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                statements(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn nothing_else_lists_databases() {
        let mut found = Vec::new();
        statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut found);
        let mut own: Vec<_> = found
            .iter()
            .filter(|(_, text)| text.contains("from pg_catalog.pg_database") && !text.contains("current_database()"))
            .map(|(path, _)| path.rsplit('/').next().unwrap().to_owned())
            .collect();
        own.sort();
        // The age of transactions is that of all, whether anybody may connect or not.
        assert_eq!(own, ["xid_age.sql"]);
    }
}
