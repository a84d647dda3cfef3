//! A repository: its layout on any storage, its backups, and what crashes left in it.

use crate::{
    BackupInfo, Error, Lease, Storage,
    catalogue::FORMAT,
    read::read_object,
    storage::Local,
    volume::{Stored, write_object},
};
use pgbosun_core::config::{self, RepositoryType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

const IDENTITY: &str = "pgbosun.json";
const LEASES: &str = "leases";
const INFO: &str = "backup.json";

/// A place where backups are kept. Clones share it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Name in the configuration.
    pub name: String,
    /// The place.
    pub storage: Arc<dyn Storage>,
    /// How it is used.
    pub options: config::Repository,
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

    fn prefix(&self) -> String {
        format!("{}/{}/backups/{}", self.cluster, self.system_id, self.label)
    }

    fn lease(&self) -> String {
        format!("{}/{}/{LEASES}/{}.json", self.cluster, self.system_id, self.label)
    }
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    id: Uuid,
}

impl Repository {
    /// The repository of this name and configuration.
    pub fn open(name: &str, options: &config::Repository) -> Self {
        let storage: Arc<dyn Storage> = match options.r#type {
            RepositoryType::Local => Arc::new(Local::new(&options.path)),
        };
        Self { name: name.to_owned(), storage, options: options.clone() }
    }

    /// Makes sure that the place is a repository this program can write, and returns its identity.
    ///
    /// # Errors
    /// [`Error::Format`] for a newer one; [`Error::Storage`] where it cannot be read or written.
    pub async fn prepare(&self) -> Result<Uuid, Error> {
        if self.storage.stat(IDENTITY).await?.is_some() {
            let identity: Identity = self.read_json(IDENTITY).await?;
            return match identity.format {
                FORMAT => Ok(identity.id),
                found => Err(Error::Format { object: IDENTITY.into(), found, known: FORMAT }),
            };
        }
        let identity = Identity { format: FORMAT, id: Uuid::now_v7() };
        self.write_json(IDENTITY, &identity).await?;
        Ok(identity.id)
    }

    /// The complete backups of a cluster, or of all, oldest first (C10: by start time). One whose `backup.json` is
    /// damaged is reported beside them, not passed over.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn backups(&self, cluster: Option<&str>) -> Result<(Vec<BackupInfo>, Vec<Error>), Error> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for place in self.places(cluster).await? {
            match self.info(&place).await {
                Ok(info) => found.push(info),
                Err(Error::NoBackup(_)) => {}
                Err(error @ (Error::Damaged { .. } | Error::Format { .. })) => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|info| info.started_at);
        Ok((found, damaged))
    }

    /// The newest backup of a cluster that counts as good.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn newest_good(&self, cluster: &str) -> Result<Option<BackupInfo>, Error> {
        let (backups, _) = self.backups(Some(cluster)).await?;
        Ok(backups.into_iter().rfind(|info| !info.checksum_failures))
    }

    /// The backup with this label.
    ///
    /// # Errors
    /// [`Error::NoBackup`], [`Error::Damaged`], [`Error::Storage`].
    pub async fn find(&self, cluster: Option<&str>, label: &str) -> Result<BackupInfo, Error> {
        let places = self.places(cluster).await?;
        match places.iter().find(|place| place.label == label) {
            Some(place) => self.info(place).await,
            None => Err(Error::NoBackup(label.to_owned())),
        }
    }

    /// Everything that looks like a backup, complete or not.
    async fn places(&self, cluster: Option<&str>) -> Result<Vec<BackupRef>, Error> {
        let clusters = match cluster {
            Some(cluster) => vec![cluster.to_owned()],
            None => self.storage.names("").await?.into_iter().filter(|name| name != IDENTITY).collect(),
        };
        let mut places = Vec::new();
        for cluster in clusters {
            for system_id in self.storage.names(&cluster).await? {
                for label in self.storage.names(&format!("{cluster}/{system_id}/backups")).await? {
                    places.push(BackupRef { cluster: cluster.clone(), system_id: system_id.clone(), label });
                }
            }
        }
        Ok(places)
    }

    async fn info(&self, place: &BackupRef) -> Result<BackupInfo, Error> {
        let key = place.key(INFO);
        if self.storage.stat(&key).await?.is_none() {
            return Err(Error::NoBackup(place.label.clone()));
        }
        BackupInfo::from_bytes(&key, &read_object(self.storage.as_ref(), &key).await?)
    }

    /// Announces a backup that is about to be written; afterwards its place is ours.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn begin(&self, place: &BackupRef, instance: Uuid) -> Result<(), Error> {
        self.write_json(&place.lease(), &Lease::new(instance)).await
    }

    /// Publishes a backup: its `backup.json` last (C14), then the lease goes.
    ///
    /// # Errors
    /// [`Error::Storage`]; then the backup does not exist.
    pub async fn publish(&self, place: &BackupRef, info: &BackupInfo) -> Result<(), Error> {
        write_object(self.storage.as_ref(), &place.key(INFO), &info.to_bytes()?).await?;
        self.storage.delete(&place.lease()).await
    }

    /// Removes a backup: first what makes it exist, then its objects, so that a crash leaves nothing listed.
    ///
    /// # Errors
    /// [`Error::Storage`]; what is left is a leftover, and goes with the next [`Self::remove_leftovers`].
    pub async fn remove(&self, place: &BackupRef) -> Result<(), Error> {
        self.storage.delete(&place.key(INFO)).await?;
        for key in self.storage.list(&place.prefix()).await? {
            self.storage.delete(&key).await?;
        }
        self.storage.delete_unfinished(&place.prefix()).await?;
        self.storage.delete(&place.lease()).await
    }

    /// Removes what dead processes of this installation left of a cluster; returns the labels.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn remove_leftovers(&self, cluster: &str, instance: Uuid) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for system_id in self.storage.names(cluster).await? {
            for lease in self.storage.names(&format!("{cluster}/{system_id}/{LEASES}")).await? {
                let Some(label) = lease.strip_suffix(".json") else { continue };
                let place = BackupRef { cluster: cluster.into(), system_id: system_id.clone(), label: label.into() };
                let holder: Lease = self.read_json(&place.lease()).await?;
                if !holder.is_dead(instance) {
                    continue;
                }
                match self.info(&place).await {
                    // It died between publishing and removing the lease: the backup is whole.
                    Ok(_) => self.storage.delete(&place.lease()).await?,
                    Err(_) => {
                        self.remove(&place).await?;
                        removed.push(place.label);
                    }
                }
            }
        }
        Ok(removed)
    }

    async fn read_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let bytes = read_object(self.storage.as_ref(), key).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Damaged { object: key.to_owned(), reason: error.to_string() })
    }

    async fn write_json<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::Archive(error.to_string()))?;
        write_object(self.storage.as_ref(), key, &bytes).await.map(|_: Stored| ())
    }
}
