//! The backups of a repository: found, published, removed.

use super::{BackupRef, CATALOGUE, CONCURRENT, IDENTITY, INFO, Repository};
use crate::{
    BackupInfo, Error, ObjectKind,
    cache::Cache,
    known::SeenIdentities,
    listing,
    order::sort_backups,
    read::{read_up_to, read_volume},
    write_object,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use pgbosun_core::clock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};

impl Repository {
    /// The complete backups of a cluster, or of all, oldest first (C33: by timeline and LSN, the current system last). One whose
    /// `backup.json` is damaged is reported beside them, not passed over.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn backups(&self, cluster: Option<&str>) -> Result<(Vec<BackupInfo>, Vec<Error>), Error> {
        let unsound = self.unsound_identity().await?;
        let places = self.places(cluster).await?;
        let (found, mut damaged) = self.infos(places.iter()).await?;
        let mut found: Vec<_> = found.into_iter().map(|read| read.info).collect();
        damaged.extend(unsound);
        sort_backups(&mut found, |info| info, clock::now());
        Ok((found, damaged))
    }

    /// The same, for showing: catalogues that were read before are not read again while their objects are unchanged.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn shown(&self, cluster: Option<&str>) -> Result<(Vec<BackupInfo>, Vec<Error>), Error> {
        let Some(file) = self.memory.as_ref().map(SeenIdentities::cache) else { return self.backups(cluster).await };
        let unsound = self.unsound_identity().await?;
        let places = self.places(cluster).await?;
        let reads: Vec<BoxFuture<'_, _>> = places
            .iter()
            .map(|place| async move { (place, self.storage.stat(&place.key(INFO)).await) }.boxed())
            .collect();
        let (mut stats, mut foreign) = (Vec::new(), Vec::new());
        let mut answers = stream::iter(reads).buffered(CONCURRENT);
        while let Some((place, stat)) = answers.next().await {
            match stat {
                Ok(stat) => stats.push((place, stat)),
                Err(error @ Error::Damaged { .. }) => foreign.push(error),
                Err(error) => return Err(error),
            }
        }
        let mut cache = blocking({
            let file = file.clone();
            move || Cache::load(&file)
        })
        .await?;
        let (mut known, mut anew) = (Vec::new(), Vec::new());
        for (place, stat) in stats.into_iter().filter_map(|(place, stat)| Some((place, stat?))) {
            match cache.get(&place.key(INFO), stat) {
                Some(read) => known.push((place, read)),
                None => anew.push((place.clone(), stat)),
            }
        }
        // C42: a signature is checked each time, whatever was read before.
        let reads: Vec<BoxFuture<'_, _>> = known
            .into_iter()
            .map(|(place, read)| async move { self.check_info(place, &read.sha256).await.map(|()| read) }.boxed())
            .collect();
        let (known, untrusted) = sort_out(reads).await?;
        let (read, mut damaged) = self.infos(anew.iter().map(|(place, _)| place)).await?;
        damaged.extend(untrusted);
        if !read.is_empty() {
            let times: HashMap<_, _> = anew.into_iter().map(|(place, stat)| (place.key(INFO), stat)).collect();
            for read in &read {
                let key = read.info.place().key(INFO);
                if let Some(stat) = times.get(&key) {
                    cache.put(key, *stat, read);
                }
            }
            // Those that are gone are never looked up again; they go with the next whole listing.
            if cluster.is_none() {
                let present: HashSet<_> = places.iter().map(|place| place.key(INFO)).collect();
                cache.retain(&present);
            }
            blocking(move || cache.store(&file)).await?;
        }
        damaged.extend(foreign);
        damaged.extend(unsound);
        let mut found: Vec<_> = known.into_iter().chain(read).map(|read| read.info).collect();
        sort_backups(&mut found, |info| info, clock::now());
        Ok((found, damaged))
    }

    /// The damage of `pgbosun.json`, which is to be told and hides no backup. C42: nor does what it says of itself, where each backup
    /// is signed and it is not.
    async fn unsound_identity(&self) -> Result<Option<Error>, Error> {
        match self.identity().await {
            Ok(_) => Ok(None),
            Err(error @ Error::Damaged { .. }) => Ok(Some(error)),
            Err(error @ Error::Format { .. }) if !self.trusted_keys()?.is_empty() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Reads the catalogues of these places; where there is none there is no backup.
    async fn infos(&self, places: impl Iterator<Item = &BackupRef>) -> Result<(Vec<ReadInfo>, Vec<Error>), Error> {
        sort_out(places.map(|place| self.info(place).boxed()).collect()).await
    }

    /// The backup with this label.
    ///
    /// # Errors
    /// [`Error::NoBackup`], [`Error::Damaged`], [`Error::Untrusted`], [`Error::Storage`].
    pub async fn find(&self, cluster: Option<&str>, label: &str) -> Result<BackupInfo, Error> {
        let places = self.places(cluster).await?;
        match places.iter().find(|place| place.label == label) {
            Some(place) => Ok(self.info(place).await?.info),
            None => Err(Error::NoBackup(label.to_owned())),
        }
    }

    /// The labels of backups that begin like this.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn labels(&self, beginning: &str) -> Result<Vec<String>, Error> {
        let mut labels = Vec::new();
        for place in self.places(None).await?.into_iter().filter(|place| place.label.starts_with(beginning)) {
            if self.is_published(&place).await? {
                labels.push(place.label);
            }
        }
        Ok(labels)
    }

    /// Everything that looks like a backup, complete or not.
    pub(super) async fn places(&self, cluster: Option<&str>) -> Result<Vec<BackupRef>, Error> {
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
                    // C36: a name goes into paths, commands and messages.
                    if is_name(&label) && is_name(&cluster) {
                        places.push(BackupRef { cluster: cluster.clone(), system_id: system_id.clone(), label });
                    } else {
                        tracing::warn!(repository = self.name, "{label:?} of {cluster:?} is not a backup name");
                    }
                }
            }
        }
        Ok(places)
    }

    /// Whether there is a backup of a system that is to be believed, if only by a newer version.
    pub(super) async fn holds_backups(&self, cluster: &str, system_id: &str) -> Result<bool, Error> {
        for place in self.places(Some(cluster)).await?.iter().filter(|place| place.system_id == system_id) {
            match self.info(place).await {
                Ok(_) | Err(Error::Format { .. }) => return Ok(true),
                Err(Error::NoBackup(_) | Error::Damaged { .. } | Error::Untrusted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether a backup exists here.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn is_published(&self, place: &BackupRef) -> Result<bool, Error> {
        Ok(self.storage.stat(&place.key(INFO)).await?.is_some())
    }

    pub(super) async fn info_bytes(&self, place: &BackupRef) -> Result<Vec<u8>, Error> {
        if !self.is_published(place).await? {
            return Err(Error::NoBackup(place.label.clone()));
        }
        read_up_to(self.storage.as_ref(), &place.key(INFO), CATALOGUE).await
    }

    /// The one reading of a catalogue. C42: what nobody trusted has signed goes no further, so no reader ever sees it.
    async fn info(&self, place: &BackupRef) -> Result<ReadInfo, Error> {
        let bytes = self.info_bytes(place).await?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        self.check_info(place, &sha256).await?;
        let key = place.key(INFO);
        let object = key.clone();
        // A catalogue of a large cluster takes its time, which is not the scheduler's.
        let parsed = tokio::task::spawn_blocking(move || BackupInfo::from_bytes(&object, &bytes)).await;
        let parsed = parsed.map_err(|error| Error::storage("read", key)(std::io::Error::other(error)))?;
        // Where it lies counts, not where it says it lay: a directory may have been moved or copied.
        parsed.map(|info| {
            let BackupRef { cluster, system_id, label } = place.clone();
            ReadInfo { info: BackupInfo { cluster, system_id, label, ..info }, sha256 }
        })
    }

    /// The files in each volume of a backup, by the volume's name without what its encoding adds.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Key`], [`Error::Storage`].
    pub async fn files(&self, info: &BackupInfo) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let none = || Error::Damaged { object: info.label.clone(), reason: "it has no file list".into() };
        let object = info.object(ObjectKind::Index).ok_or_else(none)?;
        let key = info.place().key(&object.name);
        let (name, info) = (key.clone(), info.clone());
        read_volume(self, &key, object, move |reader| {
            listing::parse(&info, reader).map_err(|error| Error::Damaged { object: name, reason: error.to_string() })
        })
        .await
    }

    /// What a backup declares and is not there with its size, by name and in words: one listing, nothing is read.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn lost_objects(&self, info: &BackupInfo) -> Result<BTreeMap<String, String>, Error> {
        let place = info.place();
        let there: HashMap<_, _> = self.storage.list(&place.prefix()).await?.into_iter().collect();
        let lost = info.objects.iter().filter_map(|object| {
            let words = match there.get(&place.key(&object.name)) {
                Some(size) if *size == object.size => return None,
                Some(size) => format!("{} has {size} bytes instead of {}", object.name, object.size),
                None => format!("{} is missing", object.name),
            };
            Some((object.name.clone(), words))
        });
        Ok(lost.collect())
    }

    /// Publishes a backup: its `backup.json` last (C14), then the lease goes.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Signing`]; then the backup does not exist.
    pub async fn publish(&self, place: &BackupRef, info: &BackupInfo) -> Result<(), Error> {
        self.publish_copy(place, info, None).await
    }

    /// Publishes a copy of a backup, with the signature of the original where this host does not sign.
    ///
    /// # Errors
    /// Those of [`Self::publish`].
    pub async fn publish_copy(
        &self,
        place: &BackupRef,
        info: &BackupInfo,
        signature: Option<&str>,
    ) -> Result<(), Error> {
        // C14, C16: what is listed is there, whatever happened to it since it was written.
        for object in &info.objects {
            let key = place.key(&object.name);
            if self.storage.stat(&key).await?.map(|stat| stat.size) != Some(object.size) {
                let reason = "it is not what was written a moment ago: somebody else removed or replaced it".into();
                return Err(Error::Damaged { object: key, reason });
            }
        }
        let bytes = info.to_bytes()?;
        self.sign_info(place, &bytes, signature).await?;
        write_object(self.storage.as_ref(), &place.key(INFO), bytes).await?;
        // The backup exists now; a lease that stays is removed with the leftovers of the next one.
        if let Err(error) = self.storage.delete(&place.lease()).await {
            tracing::warn!(repository = self.name, "lease not removed: {}", pgbosun_core::human::chain(&error));
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
}

/// A catalogue, and the SHA-256 of the object it was read from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ReadInfo {
    pub info: BackupInfo,
    pub sha256: String,
}

/// Looks at many backups at once: what is there, and what is wrong with those that are not to be used.
async fn sort_out<T>(reads: Vec<BoxFuture<'_, Result<T, Error>>>) -> Result<(Vec<T>, Vec<Error>), Error> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    let mut answers = stream::iter(reads).buffered(CONCURRENT);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(read) => found.push(read),
            Err(Error::NoBackup(_)) => {}
            Err(error) if error.is_about_object() => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((found, damaged))
}

/// Work on files of this machine, away from the scheduler's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::storage("read the cache of", "catalogues")(std::io::Error::other(error)))
}

/// Whether a name found in a repository may stand in a path, a command, a message: what we name backups has letters, digits,
/// `-`, and what a person renames them to little else.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | ' ');
    (1..=128).contains(&name.len()) && !name.starts_with(['.', '-']) && name.chars().all(plain)
}
