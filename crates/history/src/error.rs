//! What can go wrong with history.

use std::path::{Path, PathBuf};

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
    /// The journal's file is no whole SQLite database.
    #[error(
        "the journal {path} is damaged: stop the daemon, then \"pgbosun journal renew\" sets it aside and creates a new one, \
         which is refilled from dba_ops and the repositories"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// Another program has the journal open and lets nobody write.
    #[error(
        "the journal {path} is locked by another program: \"fuser -v {path}\" shows which; end it, and start again"
    )]
    Busy {
        /// Where.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// Its place takes no writes.
    #[error(
        "{path} cannot be written: its disk is mounted read-only, or became read-only because of an error that \"dmesg\" shows; fix \
         that first"
    )]
    ReadOnly {
        /// Where.
        path: PathBuf,
    },
    /// The journal was written by a newer version.
    #[error(
        "the journal {path} is from a newer pgbosun (its migration {version} is unknown here): update this one; nothing was \
         changed"
    )]
    NewerJournal {
        /// Where.
        path: PathBuf,
        /// The first migration that is unknown.
        version: i64,
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
        "dba_ops is incomplete ({0}): \"pgbosun migrate --rebuild\" rebuilds it and keeps its operators; the daemon refills it \
         from its journal, and what is left of the old one keeps its rows under another name"
    )]
    Lacking(String),
    /// Nothing has to be made anew.
    #[error(
        "nothing is missing in dba_ops: there is nothing to rebuild; \"pgbosun migrate\" brings an earlier version of it up to date"
    )]
    NothingLacks,
    /// `dba_ops` has a migration that is unknown here.
    #[error(
        "dba_ops was made by a newer pgbosun (its migration {0} is unknown here): update this one; nothing was changed"
    )]
    Newer(i64),
    /// The history database is on a server in recovery.
    #[error(
        "the history database takes no writes: its server is a standby or in recovery; set history.connection to a primary"
    )]
    TakesNoWrites,
    /// `dba_ops` does not know this installation any more.
    #[error("dba_ops was rebuilt in the meantime: it is being filled again")]
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
    /// Whether another start cannot help, and somebody has to do something first.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NewerJournal { .. } | Self::ReadOnly { .. })
    }

    /// What keeps the journal at `path` from being opened.
    pub(crate) fn open(path: &Path, source: sqlx::Error) -> Self {
        /// SQLITE_CORRUPT and SQLITE_NOTADB.
        const DAMAGED: [u32; 2] = [11, 26];
        /// SQLITE_BUSY and SQLITE_LOCKED.
        const BUSY: [u32; 2] = [5, 6];
        /// SQLITE_READONLY.
        const READ_ONLY: u32 = 8;
        let path = path.to_owned();
        let code = source.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        // The extended codes have the primary one in their lowest byte (sqlite.org/rescode.html).
        match code.map(|code| code & 0xff) {
            Some(code) if DAMAGED.contains(&code) => Self::Damaged { path, source },
            Some(code) if BUSY.contains(&code) => Self::Busy { path, source },
            Some(READ_ONLY) => Self::ReadOnly { path },
            _ => Self::Open { path, source: source.into() },
        }
    }

    /// What keeps its tables from being brought up to date.
    pub(crate) fn open_migrated(path: &Path, error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration, VersionMissing};
        match error {
            VersionMissing(version) => Self::NewerJournal { path: path.to_owned(), version },
            Execute(error) | ExecuteMigration(error, _) => Self::open(path, error),
            error => Self::Open { path: path.to_owned(), source: error.into() },
        }
    }

    pub(crate) fn journal(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Journal { what, source }
    }

    pub(crate) fn dba_ops(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::DbaOps { what, source }
    }
}
