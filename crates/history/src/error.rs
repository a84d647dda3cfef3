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
    /// Somebody took something out of `dba_ops`: what the server says of it.
    #[error(
        "dba_ops lacks what belongs into it ({0}): \"pgbosun migrate --rebuild\" makes it anew, with its operators; the daemon fills it \
         from its journal, and what is left keeps its rows under another name"
    )]
    Lacking(String),
    /// Nothing has to be made anew.
    #[error("dba_ops lacks nothing: there is nothing to make anew")]
    NothingLacks,
    /// `dba_ops` has a migration that is unknown here.
    #[error(
        "dba_ops was made by a newer pgbosun (its migration {0} is not known here): update this one, nothing of it was changed"
    )]
    Newer(i64),
    /// The history database is on a server in recovery.
    #[error(
        "the history database takes no writes: its server is a standby or recovers; history.connection names a primary"
    )]
    TakesNoWrites,
    /// `dba_ops` does not know this installation any more.
    #[error("dba_ops was made anew meanwhile: it is filled again")]
    Forgotten,
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
