//! A repository: its layout on any storage, and its identity.

mod backups;
mod leases;
mod notes;
mod readers;
mod reserve;
mod trust;

pub(crate) use backups::ReadInfo;
pub use leases::Expiry;
pub use notes::{Keep, Notes};
pub use readers::{RECOVERY_HOLD, Reader, Reading};

use crate::{
    Error, Identities, SigningKey, Storage, TrustedKeys, catalogue::FORMAT, known::SeenIdentities, read::read_up_to,
    sealed, storage, wal::WalArchive,
};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::{self, Config},
    faults, human,
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

const IDENTITY: &str = "pgbosun.json";
const LEASES: &str = "leases";
const INFO: &str = "backup.json";

/// No lease, note or identity has so many bytes.
const NOTE: u64 = 1 << 20;

/// No catalogue has so many bytes: a hundred thousand objects, and as many databases.
const CATALOGUE: u64 = 64 << 20;

/// Requests that are under way at the same time when many small objects are looked at.
const CONCURRENT: usize = 32;

/// A place where backups are kept. Clones share it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Name in the configuration.
    pub name: String,
    /// The place.
    pub storage: Arc<dyn Storage>,
    /// How it is used.
    pub options: config::RepositoryOptions,
    identities: Arc<OnceLock<Identities>>,
    signing_key: Arc<OnceLock<Option<SigningKey>>>,
    trusted_keys: Arc<OnceLock<TrustedKeys>>,
    memory: Option<SeenIdentities>,
}

/// Where a backup lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupRef {
    /// Cluster.
    pub cluster: String,
    /// System identifier.
    pub system_id: String,
    /// Label.
    pub label: String,
}

impl BackupRef {
    /// The key of an object of this backup.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix())
    }

    /// Where its objects lie.
    pub fn prefix(&self) -> String {
        format!("{}/{}/backups/{}", self.cluster, self.system_id, self.label)
    }

    /// The key of its lease.
    pub fn lease(&self) -> String {
        format!("{}/{}/{LEASES}/{}.json", self.cluster, self.system_id, self.label)
    }
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    id: Uuid,
}

fn accepted(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/accepted.json")
}

impl Repository {
    /// The repository of this name and configuration. Nothing is read or connected yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the store cannot be used as configured.
    pub fn open(config: &Config, name: &str, options: &config::Repository) -> Result<Self, Error> {
        let storage = storage::open(name, options, Some(IDENTITY))?;
        Ok(Self { memory: Some(SeenIdentities::of(config, name, options)), ..Self::on(name, &options.common, storage) })
    }

    /// A repository on this storage, of which nothing is remembered.
    pub fn on(name: &str, options: &config::RepositoryOptions, storage: Arc<dyn Storage>) -> Self {
        Self {
            name: name.to_owned(),
            storage,
            options: options.clone(),
            identities: Arc::default(),
            signing_key: Arc::default(),
            trusted_keys: Arc::default(),
            memory: None,
        }
    }

    /// The keys with which encrypted objects can be read; read when they are first needed.
    ///
    /// # Errors
    /// [`Error::Key`] where they are configured and cannot be used.
    pub fn identities(&self) -> Result<Identities, Error> {
        if let Some(identities) = self.identities.get() {
            return Ok(identities.clone());
        }
        let credential = format!("repositories.{}.identity", self.name);
        let loaded = Identities::load(self.options.identity_file.as_deref(), &credential)?;
        Ok(self.identities.get_or_init(|| loaded).clone())
    }

    /// Writes an object and removes it again; says why it could not be removed. It always has the same name: where nothing may
    /// be removed there is one.
    ///
    /// # Errors
    /// What the place answered to the writing.
    pub async fn try_to_write(&self) -> Result<Option<Error>, Error> {
        const KEY: &str = ".check";
        match write_object(self.storage.as_ref(), KEY, "written by a check, and removed").await {
            Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            written => written?,
        }
        Ok(self.storage.delete(KEY).await.err())
    }

    /// Makes sure that the place is a repository this program can write, and returns its identity.
    ///
    /// # Errors
    /// [`Error::Format`] for a newer one; [`Error::NotThere`] where another was here before; [`Error::Storage`] where it
    /// cannot be read or written.
    pub async fn prepare(&self) -> Result<Uuid, Error> {
        if let Some(id) = self.identity().await? {
            return Ok(id);
        }
        // What died before the repository was one.
        self.storage.sweep("").await?;
        let identity = Identity { format: FORMAT, id: Uuid::now_v7() };
        match self.write_json(IDENTITY, &identity).await {
            // Somebody else was faster, and it is theirs that counts.
            Err(Error::Storage { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            written => written?,
        }
        Ok(self.identity().await?.unwrap_or(identity.id))
    }

    /// The same, and a cluster's server must be the one it always was (C10).
    ///
    /// # Errors
    /// Those of [`Self::prepare`] and [`Self::check_system_id`].
    pub async fn admit(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        self.prepare().await?;
        self.check_system_id(cluster, system_id).await
    }

    /// Refuses to begin what would fill the place, where it knows how much room it has.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Storage`].
    pub async fn check_space(&self, needed: u64) -> Result<(), Error> {
        match self.storage.free_bytes().await?.filter(|free| *free < needed) {
            Some(free) => {
                Err(Error::Full { repository: self.name.clone(), free: human::size(free), needed: human::size(needed) })
            }
            None => Ok(()),
        }
    }

    /// The identity of the repository, or none where the place is no repository at this moment.
    ///
    /// # Errors
    /// [`Error::NotThere`] where one was here before, or another; [`Error::Format`], [`Error::Storage`].
    pub async fn identity(&self) -> Result<Option<Uuid>, Error> {
        let found = match self.storage.stat(IDENTITY).await? {
            None => None,
            Some(_) => match self.read_json(IDENTITY).await? {
                Identity { format: FORMAT, id } => Some(id),
                Identity { format: found, .. } => {
                    return Err(Error::Format { object: IDENTITY.into(), found, known: FORMAT });
                }
            },
        };
        self.remembered(found)?;
        Ok(found)
    }

    fn remembered(&self, found: Option<Uuid>) -> Result<(), Error> {
        self.memory.as_ref().map_or(Ok(()), |memory| memory.check(&self.name, found))
    }

    /// The system identifiers under a cluster's name that anything lies below; whatever else lies there is not ours.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn system_ids(&self, cluster: &str) -> Result<Vec<String>, Error> {
        let mut found = self.storage.names(cluster).await?;
        found.retain(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let mut holding = Vec::new();
        for name in found {
            // A file has nothing below it, nor has a directory that somebody made.
            if !self.storage.names(&format!("{cluster}/{name}")).await?.is_empty() {
                holding.push(name);
            }
        }
        Ok(holding)
    }

    /// Refuses a server whose system identifier is not the one this cluster's name stands for here (C10).
    ///
    /// # Errors
    /// [`Error::OtherSystem`], [`Error::Storage`].
    pub async fn check_system_id(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        let mut others = self.system_ids(cluster).await?;
        others.retain(|name| name != system_id);
        if others.is_empty() || self.is_accepted(cluster, system_id).await? {
            return Ok(());
        }
        for present in others {
            if self.holds_system(cluster, &present).await? {
                let (repository, cluster) = (self.name.clone(), cluster.to_owned());
                return Err(Error::OtherSystem { repository, cluster, present, system_id: system_id.to_owned() });
            }
            tracing::warn!(repository = self.name, "{cluster}/{present} is skipped: it has no trusted backup or WAL");
        }
        Ok(())
    }

    /// Whether there is a backup or WAL of a system that is to be believed (C42): a name alone, which anybody who can write here can
    /// make, stands for no server.
    async fn holds_system(&self, cluster: &str, system_id: &str) -> Result<bool, Error> {
        if self.holds_backups(cluster, system_id).await? {
            return Ok(true);
        }
        Ok(!WalArchive::new(self, cluster, system_id).contents().await?.believed.is_empty())
    }

    async fn is_accepted(&self, cluster: &str, system_id: &str) -> Result<bool, Error> {
        Ok(match self.signed_note::<Keep>(&accepted(cluster, system_id)).await? {
            None => false,
            Some(Ok(_)) => true,
            // What cannot be read was a person's word all the same, unless readers know whose word they believe (C42).
            Some(Err(_)) => self.trusted_keys()?.is_empty(),
        })
    }

    /// From now on the cluster's name stands for this system identifier too: after an upgrade or a new initdb (C10).
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn accept_system_id(&self, cluster: &str, system_id: &str, keep: &Keep) -> Result<(), Error> {
        self.write_note(&accepted(cluster, system_id), keep).await
    }

    /// Reads a small object written by [`Self::write_json`]; its own checksum must match.
    async fn read_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let bytes = read_up_to(self.storage.as_ref(), key, NOTE).await?;
        sealed::open(key, sealed::parse(key, &bytes)?)
    }

    /// When an object was stored, by the store's own clock, where it dates objects.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn stored_at(&self, key: &str) -> Result<Option<DateTime<Utc>>, Error> {
        let modified = self.storage.stat(key).await?.and_then(|stat| stat.modified);
        // A clock that a test moved on is moved on everywhere.
        Ok(modified.and_then(DateTime::from_timestamp_millis).map(|time| time + faults::ahead()))
    }

    async fn write_json<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = sealed::seal(key, sealed::fields(key, value)?)?;
        write_object(self.storage.as_ref(), key, bytes).await
    }
}

/// Stores an object as it is. C16: what the place reports as stored is compared with what was written.
///
/// # Errors
/// [`Error::Storage`], [`Error::Damaged`].
pub async fn write_object(storage: &dyn Storage, key: &str, bytes: impl Into<bytes::Bytes>) -> Result<(), Error> {
    let bytes = bytes.into();
    let size = bytes.len() as u64;
    let mut writer = storage.create(key).await?;
    writer.write(bytes).await?;
    let reported = writer.finish().await?;
    if reported == size {
        return Ok(());
    }
    let reason = format!("{size} bytes were written, but {reported} are stored");
    Err(Error::Damaged { object: key.to_owned(), reason })
}

#[cfg(test)]
mod tests;
