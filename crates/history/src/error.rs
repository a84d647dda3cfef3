//! What can go wrong with history.

use std::path::PathBuf;

/// An error of the journal or of `dba_ops`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite said no: full disk, permissions, corruption.
    #[error("journal: {what}")]
    Journal {
        /// What was being done.
        what: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The journal cannot be opened.
    #[error("open the journal {path}; is the state directory writable by this user?")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process works in this state directory.
    #[error("{path} is in use by another pgbosun process")]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The state directory cannot be used.
    #[error("state directory {path}")]
    State {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The connection to the history database.
    #[error(transparent)]
    Server(#[from] pgbosun_postgres::Error),
    /// C39: it is somebody else's.
    #[error(transparent)]
    Foreign(#[from] pgbosun_postgres::Foreign),
    /// `dba_ops` said no.
    #[error("dba_ops: {what}")]
    DbaOps {
        /// What was being done.
        what: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("migrate the schema dba_ops")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// `dba_ops` took too long.
    #[error("dba_ops: no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The journal's writer is gone, which happens only while the program ends.
    #[error("the journal is closed")]
    Closed,
}

impl Error {
    pub(crate) fn journal(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Journal { what, source }
    }

    pub(crate) fn dba_ops(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::DbaOps { what, source }
    }
}
