//! What can go wrong with a backup or a restore.

use pgbosun_repository::may_pass;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] pgbosun_postgres::Error),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] pgbosun_repository::Error),
    /// None of a cluster's servers will do.
    #[error(transparent)]
    NoServer(#[from] crate::NoServer),
    /// A file of this machine.
    #[error("{action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A rule forbids it. The words say which, and what would work.
    #[error("{0}")]
    Refused(String),
    /// A restore cannot reach its target with what is archived now.
    #[error("{reason}")]
    Beyond {
        /// The target, how far the archive reaches, and what would work.
        reason: String,
        /// The cluster's system identifier.
        system_id: String,
    },
    /// The data directory is to be read, and cannot be.
    #[error("the data directory cannot be read")]
    DataDirectory(#[source] Box<Self>),
    /// A task of ours came to no end.
    #[error("{what} ended unexpectedly")]
    BrokeOff {
        /// What it did.
        what: &'static str,
        /// How it ended.
        #[source]
        source: tokio::task::JoinError,
    },
    /// It broke off for a reason that may pass.
    #[error("{0}")]
    Interrupted(String),
    /// A server started for a test did not do what it should.
    #[error("scratch server: {0}")]
    Scratch(String),
    /// A program of PostgreSQL ended with an error.
    #[error("{program}: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// What was dumped could not be loaded.
    #[error("load into database {database} as {role}; nothing was changed there{}", load_hint(source))]
    Load {
        /// The database.
        database: String,
        /// Who loaded.
        role: String,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What helps where something could not be loaded.
fn load_hint(source: &Error) -> &'static str {
    match source {
        Error::Program { said, .. } if said.contains("permission denied") => {
            ". The role needs the rights to create these objects there, such as CREATE on the schema"
        }
        Error::Program { said, .. } if said.contains("already exists") => {
            ". Load into a database that has no such object, such as a new one, or rename what is there"
        }
        _ => "",
    }
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn query(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Postgres(pgbosun_postgres::Error::Query { what: what.into(), source })
    }

    pub(crate) fn broke_off(what: &'static str) -> impl FnOnce(tokio::task::JoinError) -> Self {
        move |source| Self::BrokeOff { what, source }
    }

    /// True where trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_transient(),
            Self::Repository(error) => error.is_transient(),
            Self::NoServer(error) => error.is_transient(),
            Self::Load { source, .. } | Self::DataDirectory(source) => source.is_transient(),
            Self::File { source, .. } => may_pass(source),
            // Else it is a fault of pgbosun.
            Self::BrokeOff { source, .. } => source.is_cancelled(),
            Self::Interrupted(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    #[tokio::test]
    async fn what_carries_an_error_passes_where_that_one_does() {
        let file = |kind: ErrorKind| Error::file("read", "/data/postmaster.pid")(io::Error::new(kind, "its words"));
        let unread = |error: Error| Error::DataDirectory(Box::new(error));
        let away = unread(file(ErrorKind::StaleNetworkFileHandle));
        assert!(away.is_transient() && !unread(file(ErrorKind::PermissionDenied)).is_transient());
        assert!(!unread(Error::Refused("source = \"stream\"".into())).is_transient());
        let words = "the data directory cannot be read: read /data/postmaster.pid: its words";
        assert_eq!(pgbosun_core::human::chain(&away), words);
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        let ended = Error::broke_off("storing")(task.await.unwrap_err());
        assert!(ended.is_transient() && std::error::Error::source(&ended).is_some(), "{ended:?}");
    }
}
