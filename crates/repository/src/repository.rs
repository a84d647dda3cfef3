//! A repository: its layout on any storage, its backups, and what crashes left in it.

use crate::{
    Active, BackupInfo, Error, Identities, Lease, ObjectKind, Storage,
    catalogue::{FORMAT, checksum},
    known::Memory,
    read::{read_object, read_volume},
    storage,
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use pgbosun_core::config::{self, Config};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};
use uuid::Uuid;

const IDENTITY: &str = "pgbosun.json";
const LEASES: &str = "leases";
const EXPIRY: &str = "expire";
const INFO: &str = "backup.json";
const KEEP: &str = "keep.json";
const VERIFIED: &str = "verified.json";

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
    pub options: config::Repository,
    identities: Arc<OnceLock<Identities>>,
    memory: Option<Memory>,
}

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

fn expiry_lease(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/{LEASES}/{EXPIRY}.json")
}

/// An announced expiry.
#[derive(Debug)]
pub struct Expiry {
    repository: Repository,
    key: String,
    _active: Active,
}

impl Expiry {
    /// Ends it.
    ///
    /// # Errors
    /// [`Error::Storage`]; then the lease is found dead later.
    pub async fn end(self) -> Result<(), Error> {
        self.repository.storage.delete(&self.key).await
    }
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    id: Uuid,
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
        Ok(Self { memory: Some(Memory::of(config, name, options)), ..Self::on(name, options, storage) })
    }

    /// A repository on this storage, of which nothing is remembered.
    pub fn on(name: &str, options: &config::Repository, storage: Arc<dyn Storage>) -> Self {
        Self { name: name.to_owned(), storage, options: options.clone(), identities: Arc::default(), memory: None }
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
        self.write_json(IDENTITY, &identity).await?;
        self.remembered(Some(identity.id))?;
        Ok(identity.id)
    }

    /// The same, and a cluster's server must be the one it always was (C10).
    ///
    /// # Errors
    /// Those of [`Self::prepare`] and [`Self::check_system_id`].
    pub async fn admit(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        self.prepare().await?;
        self.check_system_id(cluster, system_id).await
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

    /// The complete backups of a cluster, or of all, oldest first (C10: by start time). One whose `backup.json` is
    /// damaged is reported beside them, not passed over.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn backups(&self, cluster: Option<&str>) -> Result<(Vec<BackupInfo>, Vec<Error>), Error> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        self.identity().await?;
        let places = self.places(cluster).await?;
        let looks: Vec<BoxFuture<'_, _>> = places.iter().map(|place| self.info(place).boxed()).collect();
        let mut looked = stream::iter(looks).buffered(CONCURRENT);
        while let Some(info) = looked.next().await {
            match info {
                Ok(info) => found.push(info),
                Err(Error::NoBackup(_)) => {}
                Err(error @ (Error::Damaged { .. } | Error::Format { .. })) => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        drop(looked);
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

    /// Refuses a server whose system identifier is not the one this cluster's name stands for here (C10).
    ///
    /// # Errors
    /// [`Error::OtherSystem`], [`Error::Storage`].
    pub async fn check_system_id(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        let present = self.system_ids(cluster).await?;
        match present.iter().find(|name| *name != system_id) {
            Some(other) if self.storage.stat(&accepted(cluster, system_id)).await?.is_none() => {
                Err(Error::OtherSystem {
                    repository: self.name.clone(),
                    cluster: cluster.to_owned(),
                    present: other.clone(),
                    system_id: system_id.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// From now on the cluster's name stands for this system identifier too: after an upgrade or a new initdb (C10).
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn accept_system_id(&self, cluster: &str, system_id: &str, keep: &Keep) -> Result<(), Error> {
        self.write_json(&accepted(cluster, system_id), keep).await
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

    /// The files in each volume of a backup, by the volume's name without what its encoding adds.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Key`], [`Error::Storage`].
    pub async fn files(&self, info: &BackupInfo) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let none = || Error::Damaged { object: info.label.clone(), reason: "it has no list of files".into() };
        let object = info.object(ObjectKind::Index).ok_or_else(none)?;
        let key = info.place().key(&object.name);
        let name = key.clone();
        read_volume(self, &key, object, move |reader| {
            serde_json::from_reader(reader).map_err(|error| Error::Damaged { object: name, reason: error.to_string() })
        })
        .await
    }

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

    async fn note<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<Result<T, Error>>, Error> {
        if self.storage.stat(key).await?.is_none() {
            return Ok(None);
        }
        match self.read_json(key).await {
            Err(error @ Error::Damaged { .. }) => Ok(Some(Err(error))),
            read => Ok(Some(Ok(read?))),
        }
    }

    /// Announces a backup that is about to be written; afterwards its place is ours. Waits while somebody expires (C9).
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Busy`] where an expiry does not end.
    pub async fn begin(&self, place: &BackupRef, instance: Uuid) -> Result<(), Error> {
        self.write_json(&place.lease(), &Lease::new(instance)).await?;
        let expiry = expiry_lease(&place.cluster, &place.system_id);
        let begun = std::time::Instant::now();
        while let Some(Ok(lease)) = self.note::<Lease>(&expiry).await? {
            if lease.is_dead(instance, &expiry) || lease.is_silent() {
                break;
            }
            if begun.elapsed() > self.options.stall_timeout {
                self.storage.delete(&place.lease()).await?;
                return Err(Error::Busy { what: "an expiry".into(), since: lease.started_at });
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Says that the holder of a lease is still at work.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn renew(&self, place: &BackupRef, instance: Uuid) -> Result<(), Error> {
        self.write_json(&place.lease(), &Lease::new(instance)).await
    }

    /// Announces an expiry, which is the only work that nothing else may go on beside (C9).
    ///
    /// # Errors
    /// [`Error::Busy`] where somebody writes a backup or expires; [`Error::Storage`].
    pub async fn begin_expiry(&self, cluster: &str, system_id: &str, instance: Uuid) -> Result<Expiry, Error> {
        let key = expiry_lease(cluster, system_id);
        if let Some(Ok(lease)) = self.note::<Lease>(&key).await?
            && !lease.is_dead(instance, &key)
            && !lease.is_silent()
        {
            return Err(Error::Busy { what: "another expiry".into(), since: lease.started_at });
        }
        let active = Active::claim(&key);
        self.write_json(&key, &Lease::new(instance)).await?;
        let leases = format!("{cluster}/{system_id}/{LEASES}");
        for name in self.storage.names(&leases).await? {
            let other = format!("{leases}/{name}");
            if other == key {
                continue;
            }
            if let Some(Ok(lease)) = self.note::<Lease>(&other).await?
                && !lease.is_dead(instance, &other)
                && !lease.is_silent()
            {
                self.storage.delete(&key).await?;
                let label = name.trim_end_matches(".json");
                return Err(Error::Busy { what: format!("the backup {label}"), since: lease.started_at });
            }
        }
        Ok(Expiry { repository: self.clone(), key, _active: active })
    }

    /// Publishes a backup: its `backup.json` last (C14), then the lease goes.
    ///
    /// # Errors
    /// [`Error::Storage`]; then the backup does not exist.
    pub async fn publish(&self, place: &BackupRef, info: &BackupInfo) -> Result<(), Error> {
        // C14, C16: what is listed is there, whatever happened to it since it was written.
        for object in &info.objects {
            let key = place.key(&object.name);
            if self.storage.stat(&key).await?.map(|stat| stat.size) != Some(object.size) {
                let reason = "it is not as it was written a moment ago: somebody else removed or replaced it".into();
                return Err(Error::Damaged { object: key, reason });
            }
        }
        write_object(self.storage.as_ref(), &place.key(INFO), info.to_bytes()?).await?;
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
        for (key, _) in self.storage.list(&place.prefix()).await? {
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
        self.storage.sweep(cluster).await?;
        for system_id in self.system_ids(cluster).await? {
            let leases = self.storage.names(&format!("{cluster}/{system_id}/{LEASES}")).await?;
            let leased = leases.iter().filter_map(|lease| lease.strip_suffix(".json")).filter(|name| *name != EXPIRY);
            let mut labels: BTreeSet<String> = leased.map(str::to_owned).collect();
            labels.extend(self.storage.names(&format!("{cluster}/{system_id}/backups")).await?);
            for label in labels {
                let place = BackupRef { cluster: cluster.into(), system_id: system_id.clone(), label };
                let dead = match self.note::<Lease>(&place.lease()).await? {
                    Some(lease) => lease?.is_dead(instance, &place.lease()),
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

    /// Reads a small object written by [`Self::write_json`]; its own checksum must match.
    async fn read_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let bytes = read_object(self.storage.as_ref(), key).await?;
        let damaged = |reason: String| Error::Damaged { object: key.to_owned(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let written = value.get("checksum").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        if checksum(value.clone()) != written {
            return Err(damaged("its own checksum does not match".into()));
        }
        serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
    }

    async fn write_json<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let failed = |error: serde_json::Error| Error::Archive(error.to_string());
        let mut value = serde_json::to_value(value).map_err(failed)?;
        value["checksum"] = checksum(value.clone()).into();
        let bytes = serde_json::to_vec_pretty(&value).map_err(failed)?;
        write_object(self.storage.as_ref(), key, bytes).await
    }

    /// Reads every small object of a cluster that is neither backup nor WAL; returns how many, and what is damaged.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn check_small_objects(&self, cluster: &str) -> Result<(u64, Vec<Error>), Error> {
        let (mut count, mut damaged) = (0, Vec::new());
        let mut keys: Vec<String> =
            self.storage.stat(IDENTITY).await?.map(|_| IDENTITY.to_owned()).into_iter().collect();
        for system_id in self.system_ids(cluster).await? {
            let own = accepted(cluster, &system_id);
            keys.extend(self.storage.stat(&own).await?.map(|_| own));
            let leases = format!("{cluster}/{system_id}/{LEASES}");
            keys.extend(self.storage.names(&leases).await?.into_iter().map(|name| format!("{leases}/{name}")));
        }
        for place in self.places(Some(cluster)).await? {
            for note in [place.key(KEEP), place.key(VERIFIED)] {
                keys.extend(self.storage.stat(&note).await?.map(|_| note));
            }
        }
        for key in keys {
            count += 1;
            match self.read_json::<serde_json::Value>(&key).await {
                Ok(_) => {}
                Err(error @ Error::Damaged { .. }) => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((count, damaged))
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
    let reason = format!("{size} bytes were written and {reported} are stored");
    Err(Error::Damaged { object: key.to_owned(), reason })
}
