//! What is written down beside backups: that one is kept, that one was verified. Each with its own checksum.

use super::{BackupRef, CONCURRENT, IDENTITY, LEASES, Repository, accepted};
use crate::{BackupInfo, Error};
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
        self.write_json(&place.key(KEEP), keep).await
    }

    /// Gives a kept backup back to retention.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn unkeep(&self, place: &BackupRef) -> Result<(), Error> {
        self.storage.delete(&place.key(KEEP)).await
    }

    /// Writes down what a verification said of a backup.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn note_verified(&self, place: &BackupRef, passed: bool) -> Result<(), Error> {
        self.write_json(&place.key(VERIFIED), &Verification { passed, at: pgbosun_core::clock::now() }).await
    }

    /// What is written down beside these backups, in their order. What cannot be read counts as kept and unverified.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn notes(&self, infos: &[BackupInfo]) -> Result<Vec<Notes>, Error> {
        let looks: Vec<BoxFuture<'_, _>> = infos.iter().map(|info| self.notes_of(info).boxed()).collect();
        stream::iter(looks).buffered(CONCURRENT).try_collect().await
    }

    async fn notes_of(&self, info: &BackupInfo) -> Result<Notes, Error> {
        let place = info.place();
        let unread = |error: Error| Keep { by: "unknown".into(), at: info.started_at, reason: error.to_string() };
        let keep = self.note(&place.key(KEEP)).await?.map(|keep| keep.unwrap_or_else(unread));
        let verified = self.note::<Verification>(&place.key(VERIFIED)).await?.and_then(Result::ok);
        Ok(Notes { keep, verified: verified.map(|verified| verified.passed) })
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
        let mut keys = vec![IDENTITY.to_owned()];
        for system_id in self.system_ids(cluster).await? {
            keys.push(accepted(cluster, &system_id));
            let leases = format!("{cluster}/{system_id}/{LEASES}");
            keys.extend(self.storage.names(&leases).await?.into_iter().map(|name| format!("{leases}/{name}")));
            let readers = super::readers::directory(cluster, &system_id);
            keys.extend(self.storage.names(&readers).await?.into_iter().map(|name| format!("{readers}/{name}")));
        }
        for place in self.places(Some(cluster)).await? {
            keys.extend([place.key(KEEP), place.key(VERIFIED)]);
        }
        for key in keys {
            if let Some(read) = self.note::<serde_json::Value>(&key).await? {
                count += 1;
                damaged.extend(read.err());
            }
        }
        Ok((count, damaged))
    }
}
