//! What is written down beside backups: that one is kept, that one was verified. Each with its own checksum.

use super::{BackupRef, CONCURRENT, IDENTITY, LEASES, Repository, accepted};
use crate::{BackupInfo, Error, sealed::Fields};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};

const KEEP: &str = "keep.json";
const VERIFIED: &str = "verified.json";

/// A person's decision that is kept in the repository: a backup that stays, a system identifier that is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Keep {
    /// Who said so.
    pub by: String,
    /// When.
    pub at: chrono::DateTime<chrono::Utc>,
    /// Why.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Verification {
    passed: bool,
    at: chrono::DateTime<chrono::Utc>,
}

/// What is written down beside a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// It stays whatever retention says.
    pub keep: Option<Keep>,
    /// What its last verification said.
    pub verified: Option<bool>,
}

impl Repository {
    /// Marks a backup as kept, whatever retention says.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn keep(&self, place: &BackupRef, keep: &Keep) -> Result<(), Error> {
        self.write_note(&place.key(KEEP), keep).await
    }

    /// Gives a kept backup back to retention.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn unkeep(&self, place: &BackupRef) -> Result<(), Error> {
        self.storage.delete(&place.key(KEEP)).await
    }

    /// Writes down what a verification said of a backup. Where signatures are checked and this host has none, its praise would only
    /// replace one that is believed; its blame takes that away.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Signing`].
    pub async fn note_verified(&self, place: &BackupRef, passed: bool) -> Result<(), Error> {
        if passed && !self.trusted_keys()?.is_empty() && self.signing_key()?.is_none() {
            let label = &place.label;
            tracing::warn!(
                repository = self.name,
                "{label} passed, but this is not recorded in the repository: this host has no signing-key-file"
            );
            return Ok(());
        }
        self.write_note(&place.key(VERIFIED), &Verification { passed, at: pgbosun_core::clock::now() }).await
    }

    /// What is written down beside these backups, in their order. What cannot be read, or believed (C42), counts as kept and
    /// unverified.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn notes(&self, infos: &[BackupInfo]) -> Result<Vec<Notes>, Error> {
        let reads: Vec<BoxFuture<'_, _>> = infos.iter().map(|info| self.notes_of(info).boxed()).collect();
        stream::iter(reads).buffered(CONCURRENT).try_collect().await
    }

    async fn notes_of(&self, info: &BackupInfo) -> Result<Notes, Error> {
        let place = info.place();
        let unread = |error: Error| Keep { by: "unknown".into(), at: info.started_at, reason: error.to_string() };
        let keep = self.signed_note(&place.key(KEEP)).await?.map(|keep| keep.unwrap_or_else(unread));
        let verified = self.signed_note::<Verification>(&place.key(VERIFIED)).await?.and_then(|read| {
            read.inspect_err(|error| tracing::debug!(repository = self.name, "counts as not verified: {error}")).ok()
        });
        Ok(Notes { keep, verified: verified.map(|verified| verified.passed) })
    }

    /// A note that somebody goes by, where readers know whom to believe (C42).
    pub(super) async fn signed_note<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Result<T, Error>>, Error> {
        let Some(read) = self.note::<Fields>(key).await? else { return Ok(None) };
        let believed = read.and_then(|note| {
            self.check_note(key, note.clone())?;
            let damaged =
                |error: serde_json::Error| Error::Damaged { object: key.to_owned(), reason: error.to_string() };
            serde_json::from_value(note.into()).map_err(damaged)
        });
        match believed {
            Err(error @ Error::Signing(_)) => Err(error),
            believed => Ok(Some(believed)),
        }
    }

    /// Signs the note by which a person keeps a backup, where there is one from before signing was set up.
    pub(super) async fn sign_keep(&self, place: &BackupRef) -> Result<(), Error> {
        match self.note::<Keep>(&place.key(KEEP)).await? {
            Some(Ok(keep)) => self.keep(place, &keep).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn note<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Result<T, Error>>, Error> {
        match self.storage.stat(key).await {
            Ok(None) => return Ok(None),
            Err(error @ Error::Damaged { .. }) => return Ok(Some(Err(error))),
            found => found?,
        };
        match self.read_json(key).await {
            Err(error @ Error::Damaged { .. }) => Ok(Some(Err(error))),
            read => Ok(Some(Ok(read?))),
        }
    }

    /// Reads every small object of a cluster that is neither backup nor WAL; returns how many, and what is damaged.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn check_small_objects(&self, cluster: &str) -> Result<(u64, Vec<Error>), Error> {
        let (mut count, mut damaged) = (0, Vec::new());
        let (mut keys, mut signed) = (vec![IDENTITY.to_owned()], Vec::new());
        for system_id in self.system_ids(cluster).await? {
            signed.push(accepted(cluster, &system_id));
            let leases = format!("{cluster}/{system_id}/{LEASES}");
            keys.extend(self.storage.names(&leases).await?.into_iter().map(|name| format!("{leases}/{name}")));
            let readers = super::readers::directory(cluster, &system_id);
            keys.extend(self.storage.names(&readers).await?.into_iter().map(|name| format!("{readers}/{name}")));
        }
        for place in self.places(Some(cluster)).await? {
            signed.extend([place.key(KEEP), place.key(VERIFIED)]);
        }
        for (key, signed) in keys.iter().map(|key| (key, false)).chain(signed.iter().map(|key| (key, true))) {
            let read = match signed {
                true => self.signed_note::<serde_json::Value>(key).await?,
                false => self.note(key).await?,
            };
            if let Some(read) = read {
                count += 1;
                // That a backup passed is not to be believed and counts for nothing: the next verification writes it anew.
                let harmless =
                    |error: &Error| matches!(error, Error::Untrusted { object, .. } if object.ends_with(VERIFIED));
                damaged.extend(read.err().filter(|error| !harmless(error)));
            }
        }
        Ok((count, damaged))
    }
}
