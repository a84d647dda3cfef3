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
use std::{collections::BTreeSet, sync::Arc};
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

    /// The newest backup of a cluster that counts as good. Labels begin with the time of the start, so only as many
    /// catalogues are read as it takes to find it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn newest_good(&self, cluster: &str) -> Result<Option<BackupInfo>, Error> {
        let mut places = self.places(Some(cluster)).await?;
        places.sort_by(|a, b| b.label.cmp(&a.label));
        for place in places {
            match self.info(&place).await {
                Ok(info) if !info.checksum_failures => return Ok(Some(info)),
                Ok(_) | Err(Error::NoBackup(_) | Error::Damaged { .. } | Error::Format { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
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
            // A file system of its own has a lost+found, which only root may look into.
            None => {
                let names = self.storage.names("").await?.into_iter();
                names.filter(|name| name != IDENTITY && name != "lost+found" && !name.starts_with('.')).collect()
            }
        };
        let mut places = Vec::new();
        for cluster in clusters {
            for system_id in self.system_ids(&cluster).await? {
                for label in self.storage.names(&format!("{cluster}/{system_id}/backups")).await? {
                    places.push(BackupRef { cluster: cluster.clone(), system_id: system_id.clone(), label });
                }
            }
        }
        Ok(places)
    }

    /// The system identifiers under a cluster's name; whatever else lies there is not ours.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn system_ids(&self, cluster: &str) -> Result<Vec<String>, Error> {
        let names = self.storage.names(cluster).await?.into_iter();
        Ok(names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
    }

    /// Whether a backup exists here.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn is_published(&self, place: &BackupRef) -> Result<bool, Error> {
        Ok(self.storage.stat(&place.key(INFO)).await?.is_some())
    }

    async fn info(&self, place: &BackupRef) -> Result<BackupInfo, Error> {
        let key = place.key(INFO);
        if !self.is_published(place).await? {
            return Err(Error::NoBackup(place.label.clone()));
        }
        let bytes = read_object(self.storage.as_ref(), &key).await?;
        let object = key.clone();
        // A catalogue of a large cluster takes its time, which is not the scheduler's.
        let parsed = tokio::task::spawn_blocking(move || BackupInfo::from_bytes(&object, &bytes)).await;
        let parsed = parsed.map_err(|error| Error::Damaged { object: key, reason: error.to_string() })?;
        // Where it lies counts, not where it says it lay: a directory may have been moved or copied.
        parsed.map(|info| {
            let BackupRef { cluster, system_id, label } = place.clone();
            BackupInfo { cluster, system_id, label, ..info }
        })
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
        // The backup exists now; a lease that stays is removed with the leftovers of the next one.
        if let Err(error) = self.storage.delete(&place.lease()).await {
            tracing::warn!(repository = self.name, "lease stays: {}", pgbosun_core::human::chain(&error));
        }
        Ok(())
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

    /// Removes what dead processes left of a cluster; returns the labels.
    ///
    /// A lease is written before anything of its backup and goes after the last of it. So a directory with neither
    /// `backup.json` nor lease is what a removal left that was broken off, whoever did it; one with a lease is a
    /// leftover when its holder is dead.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn remove_leftovers(&self, cluster: &str, instance: Uuid) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for system_id in self.system_ids(cluster).await? {
            let leases = self.storage.names(&format!("{cluster}/{system_id}/{LEASES}")).await?;
            let leased = leases.iter().filter_map(|lease| lease.strip_suffix(".json"));
            let mut labels: BTreeSet<String> = leased.map(str::to_owned).collect();
            labels.extend(self.storage.names(&format!("{cluster}/{system_id}/backups")).await?);
            for label in labels {
                let place = BackupRef { cluster: cluster.into(), system_id: system_id.clone(), label };
                let dead = match self.storage.stat(&place.lease()).await? {
                    Some(_) => self.read_json::<Lease>(&place.lease()).await?.is_dead(instance, &place.label),
                    None => true,
                };
                match (dead, self.is_published(&place).await?) {
                    // It died between publishing and removing the lease: the backup is whole.
                    (true, true) => self.storage.delete(&place.lease()).await?,
                    (true, false) => {
                        self.remove(&place).await?;
                        removed.push(place.label);
                    }
                    (false, _) => {}
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
