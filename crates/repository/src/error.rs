//! What can go wrong with a repository.

/// An error of a repository. Each names the object (C26).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage said no.
    #[error("{action} {object}")]
    Storage {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An object is not what it was when it was written.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// Which.
        object: String,
        /// How that shows.
        reason: String,
    },
    /// The repository was written by a newer program.
    #[error("{object} has format {found}, and this program knows {known}; install a newer pgbosun")]
    Format {
        /// Which.
        object: String,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// There is no such backup.
    #[error("no backup {0}; \"pgbosun backup list\" shows what there is")]
    NoBackup(String),
    /// What was to be stored is no tar archive.
    #[error("the archive from the server: {0}")]
    Archive(String),
}

impl Error {
    pub(crate) fn storage(action: &'static str, object: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let object = object.into();
        move |source| Self::Storage { action, object, source }
    }

    /// True where trying again later may help; a full disk is not such a case, since only a person frees it.
    pub fn is_transient(&self) -> bool {
        use std::io::ErrorKind as Kind;
        matches!(self, Self::Storage { source, .. }
            if matches!(source.kind(), Kind::TimedOut | Kind::Interrupted | Kind::ConnectionReset | Kind::StaleNetworkFileHandle | Kind::NetworkUnreachable))
    }
}
