//! What can go wrong with a repository.

use crate::storage::Foreign;
use std::path::PathBuf;

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
    /// A store said no.
    #[error("{action} {object}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: String,
        /// Why not.
        #[source]
        source: Box<opendal::Error>,
    },
    /// A repository did not move on for longer than its `stall-timeout`.
    #[error("{object} made no progress for {limit:?} (stall-timeout)")]
    Stalled {
        /// What was being written.
        object: String,
        /// How long it may take.
        limit: std::time::Duration,
    },
    /// A key of the encryption is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key for signatures is missing or wrong.
    #[error("{0}")]
    Signing(String),
    /// C42: nobody whose key is among `trusted-keys` signed this.
    #[error("{object} is not trusted: {reason}")]
    Untrusted {
        /// Which.
        object: String,
        /// Why not.
        reason: String,
    },
    /// Another object has this name and other contents (C2).
    #[error(
        "{object} is already archived with different contents ({present}): two servers archive under the same name, or the \
         server was reset. Or it was archived by hand before the server had filled it: then the archived file is only its \
         beginning; remove that from the repository so that the whole file can be archived. Nothing was overwritten"
    )]
    Conflict {
        /// The segment.
        object: String,
        /// What is there.
        present: String,
    },
    /// Another server stands under this cluster's name (C10).
    #[error(
        "repository {repository} holds system identifier {present} under the name {cluster}, but this server has {system_id}: \
         a new initdb or an upgrade; if that is intended, run \"pgbosun cluster accept {cluster}\""
    )]
    OtherSystem {
        /// Where.
        repository: String,
        /// The cluster.
        cluster: String,
        /// What is there.
        present: String,
        /// What was to be written.
        system_id: String,
    },
    /// A copy of the machine whose server's backups and WAL these are, or that one, put back to an earlier state (C43).
    #[error(
        "the server is not the one whose backups and WAL are in repository {repository}: {reason}. One of the two is a copy of \
         the other's machine, or this one was put back to an earlier state. Give this server a name of its own in the \
         configuration, [clusters.NAME] instead of [clusters.{cluster}]: its backups and WAL start afresh under that name, and \
         what the repository has under {cluster} stays for a configuration file that still names it. If only some of the \
         backups there come from a copy, remove those with \"pgbosun backup remove\""
    )]
    AnotherServer {
        /// Where.
        repository: String,
        /// The cluster.
        cluster: String,
        /// How that shows.
        reason: String,
    },
    /// Somebody else is at work that must end first (C9).
    #[error("{what} has been running in this repository since {since}; this is retried later")]
    Busy {
        /// Who or what.
        what: String,
        /// When it last said so.
        since: chrono::DateTime<chrono::Utc>,
    },
    /// The place is not the repository it was: the share is not mounted, or is another one.
    #[error(
        "repository {repository} is not there: {place}: {reason}. Is the share mounted? If it was removed or replaced on \
         purpose, remove {memory}"
    )]
    NotThere {
        /// Which.
        repository: String,
        /// Where it should be.
        place: String,
        /// What is there instead.
        reason: &'static str,
        /// What remembers it.
        memory: String,
    },
    /// What is seen at the place is not what the machine has there.
    #[error("repository {repository} is not there: {place}: {reason}")]
    Held {
        /// Which.
        repository: String,
        /// Where it should be.
        place: String,
        /// Why, and what helps.
        reason: &'static str,
    },
    /// There is not enough room for what is to be written.
    #[error(
        "repository {repository} has {free} free, but the backup needs about {needed}: free up space or add a repository"
    )]
    Full {
        /// Its name.
        repository: String,
        /// What is free, for people.
        free: String,
        /// What is needed.
        needed: String,
    },
    /// Nothing takes what is written any more.
    #[error("no repository is left to write to")]
    NoneLeft,
    /// The repository cannot be used as configured.
    #[error("repository {repository}: {reason}")]
    Configuration {
        /// Which.
        repository: String,
        /// Why.
        reason: String,
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
    #[error("{object} has format {found}, but this program knows formats only up to {known}; install a newer pgbosun")]
    Format {
        /// Which.
        object: String,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// There is no such backup.
    #[error("no backup is labelled {0}; \"pgbosun backup list\" shows them")]
    NoBackup(String),
    /// What is to be written down cannot be expressed as JSON.
    #[error("write {object} as JSON")]
    Serialize {
        /// Which.
        object: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The task that wrote an object came to no end.
    #[error("the writer of {object} ended early")]
    Writer {
        /// Which.
        object: String,
        /// Why; without it the task took the object for whole.
        #[source]
        source: Option<tokio::task::JoinError>,
    },
    /// What was to be stored is no tar archive.
    #[error("the archive from the server: {0}")]
    Archive(String),
}

/// What is wrong with a key of the encryption.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A public key is none.
    #[error(
        "encrypt-to: \"{word}\" is not an age public key ({reason}): \"age-keygen -y FILE\" shows the public key of an identity"
    )]
    Recipient {
        /// What is configured.
        word: String,
        /// In the words of age.
        reason: &'static str,
    },
    /// Nothing can be encrypted for the public keys.
    #[error("encrypt for the keys of encrypt-to")]
    Encrypt(#[source] age::EncryptError),
    /// The file with the secret keys cannot be read, or holds something else.
    #[error("identity file {path}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file with the secret keys is open to others (C25).
    #[error("identity file {path}: it is open to others (mode {mode:04o}): chmod 0600")]
    Exposed {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A secret key in the file cannot be used.
    #[error("identity file {path}")]
    Identity {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: age::DecryptError,
    },
    /// There is no secret key.
    #[error("{object} is encrypted, but no identity is configured: set identity-file")]
    Missing {
        /// What was to be read.
        object: String,
    },
    /// It was written for other keys.
    #[error("{object} is encrypted for other keys: none of the identities matches")]
    Other {
        /// What was to be read.
        object: String,
    },
}

impl KeyError {
    fn is_transient(&self) -> bool {
        match self {
            Self::File { source, .. } | Self::Encrypt(age::EncryptError::Io(source)) => may_pass(source),
            _ => false,
        }
    }
}

/// True for an error of the operating system that trying again later may cure; a full disk is not such a case, since only a person
/// frees it.
pub fn may_pass(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::TimedOut
            | Kind::Interrupted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::StaleNetworkFileHandle
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
    )
}

impl Error {
    pub(crate) fn storage(action: &'static str, object: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let object = object.into();
        // C36: what is no plain file is a fault of what lies there, not of the place.
        move |source| match source.downcast::<Foreign>() {
            Ok(foreign) => Self::Damaged { object, reason: foreign.to_string() },
            Err(source) => Self::Storage { action, object, source },
        }
    }

    pub(crate) fn store(action: &'static str, object: impl Into<String>) -> impl FnOnce(opendal::Error) -> Self {
        let object = object.into();
        move |source| Self::Store { action, object, source: Box::new(source) }
    }

    /// A value that is written to `object`, or to be part of it.
    pub fn serialize(object: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let object = object.into();
        move |source| Self::Serialize { object, source }
    }

    /// The server is not the one that a repository has backups and WAL of.
    pub fn another_server(repository: &crate::Repository, cluster: &str, reason: String) -> Self {
        Self::AnotherServer { repository: repository.name.clone(), cluster: cluster.to_owned(), reason }
    }

    pub(crate) fn stalled(object: &str, limit: std::time::Duration) -> Self {
        Self::Stalled { object: object.to_owned(), limit }
    }

    /// True where the place has no room left, and says so.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Storage { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// True where something is known of an object: it is not what it should be. Otherwise nobody could look.
    pub const fn is_about_object(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Format { .. } | Self::Untrusted { .. })
    }

    /// Whether it tells of what lies there, and not of the way to it: sealed for this host, damaged, in conflict, or not to be
    /// believed. It is the same at every try, so what is read beside something else may be known in part; after any other error
    /// nothing is known.
    pub const fn is_of_contents(&self) -> bool {
        self.is_about_object() || self.is_sealed() || matches!(self, Self::Conflict { .. })
    }

    /// Whether it is encrypted to somebody else, as on a host that only writes. A key that cannot be read just now says nothing of that.
    pub const fn is_sealed(&self) -> bool {
        matches!(self, Self::Key(KeyError::Missing { .. } | KeyError::Other { .. }))
    }

    /// True where the place says that there is no such object. Of what a backup declares that is damage.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Storage { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Store { source, .. } => source.kind() == opendal::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// True where trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage { source, .. } => may_pass(source),
            Self::Key(error) => error.is_transient(),
            // What the layer repeated in vain it marks as lasting: the words of the transport still say what it was.
            Self::Store { source, .. } => {
                use opendal::ErrorKind as Kind;
                !matches!(
                    source.kind(),
                    Kind::NotFound | Kind::PermissionDenied | Kind::ConfigInvalid | Kind::Unsupported
                )
            }
            Self::Stalled { .. } | Self::Busy { .. } | Self::NotThere { .. } | Self::Held { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::human::chain;
    use std::{error::Error as _, io};

    #[test]
    fn an_error_of_a_key_keeps_its_source() {
        let file = |kind: io::ErrorKind| {
            Error::from(KeyError::File { path: "/keys/id".into(), source: io::Error::new(kind, "the system's words") })
        };
        let away = file(io::ErrorKind::StaleNetworkFileHandle);
        assert!(away.is_transient() && !file(io::ErrorKind::PermissionDenied).is_transient());
        assert!(away.source().is_some_and(|source| source.is::<io::Error>()));
        assert_eq!(chain(&away), "identity file /keys/id: the system's words");
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let broken = Error::from(KeyError::Encrypt(age::EncryptError::Io(reset)));
        assert!(broken.is_transient() && chain(&broken).ends_with("connection reset"), "{}", chain(&broken));
    }

    #[test]
    fn a_place_that_does_not_answer_says_nothing_of_an_object() {
        let kinds = [(opendal::ErrorKind::NotFound, true), (opendal::ErrorKind::Unexpected, false)];
        for (kind, missing) in kinds {
            let error = Error::store("read", "a")(opendal::Error::new(kind, "the store's words"));
            assert!(error.is_missing() == missing && error.is_transient() != missing && !error.is_about_object());
        }
        let kinds = [(io::ErrorKind::NotFound, true), (io::ErrorKind::ConnectionReset, false)];
        for (kind, missing) in kinds {
            let error = Error::storage("read", "a")(kind.into());
            assert!(error.is_missing() == missing && error.is_transient() != missing && !error.is_about_object());
        }
        assert!(Error::Damaged { object: "a".into(), reason: "it is".into() }.is_about_object());
    }

    #[test]
    fn c25_an_identity_file_that_cannot_be_used_says_what_and_why() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("id");
        let failure = || crate::Identities::load(Some(&path), "none").unwrap_err();
        let system = |error: &KeyError, kind: io::ErrorKind| matches!(error, KeyError::File { source, .. } if source.kind() == kind);
        assert!(system(&failure(), io::ErrorKind::NotFound), "{:?}", failure());
        std::fs::write(&path, "no key\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(failure(), KeyError::Exposed { mode: 0o640, .. }), "{:?}", failure());
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(system(&failure(), io::ErrorKind::InvalidData), "{:?}", failure());
        let words = crate::Recipients::new(&["age1no".into()]).encryptor().map(|_| ()).unwrap_err().to_string();
        assert!(words.starts_with("encrypt-to: \"age1no\" is not an age public key ("), "{words}");
    }
}
