//! Who is at work in a repository, and what dead processes left there (C9).

use super::{BackupRef, CONCURRENT, LEASES, Repository};
use crate::{Active, Error, Lease};
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use std::collections::BTreeSet;
use uuid::Uuid;

const EXPIRY: &str = "expire";

pub(super) fn expiry_lease(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/{LEASES}/{EXPIRY}.json")
}

/// An announced expiry.
#[derive(Debug)]
pub struct Expiry {
    repository: Repository,
    cluster: String,
    system_id: String,
    store_time: Option<DateTime<Utc>>,
    _active: Active,
}

impl Expiry {
    /// What the store's own clock said a moment ago, where it dates objects.
    pub const fn store_time(&self) -> Option<DateTime<Utc>> {
        self.store_time
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`Error::Storage`]; then the lease is found dead later.
    pub async fn end(self) -> Result<(), Error> {
        let Self { repository, cluster, system_id, .. } = &self;
        repository.storage.delete(&expiry_lease(cluster, system_id)).await?;
        repository.hold_reserve(cluster, system_id).await;
        Ok(())
    }
}

impl Repository {
    /// Announces a backup that is about to be written; afterwards its place is ours. Waits while somebody expires (C9).
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Busy`] where an expiry does not end.
    pub async fn begin(&self, place: &BackupRef, instance: Uuid) -> Result<(), Error> {
        self.write_json(&place.lease(), &Lease::new(instance)).await?;
        self.hold_reserve(&place.cluster, &place.system_id).await;
        let expiry = expiry_lease(&place.cluster, &place.system_id);
        let begun = std::time::Instant::now();
        while let Some(lease) = self.expiry_at_work(&expiry).await? {
            if !lease.is_alive(Some(instance), &expiry) {
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
    /// [`Error::Busy`] where somebody writes a backup or expires; [`Error::Signing`] where others would not believe it;
    /// [`Error::Storage`].
    pub async fn begin_expiry(&self, cluster: &str, system_id: &str, instance: Uuid) -> Result<Expiry, Error> {
        self.check_signing()?;
        let key = expiry_lease(cluster, system_id);
        if let Some(lease) = self.expiry_at_work(&key).await?
            && lease.is_alive(Some(instance), &key)
        {
            return Err(Error::Busy { what: "another expiry".into(), since: lease.started_at });
        }
        let active = Active::claim(&key);
        let lease = Lease::new(instance);
        match self.write_note(&key, &lease).await {
            // C26: it is what makes room. One that died may have used the reserve up.
            Err(error) if error.is_full() => {
                self.storage.delete(&key).await?;
                self.give_reserve(cluster, system_id).await?;
                self.write_note(&key, &lease).await?;
            }
            written => written?,
        }
        let leases = format!("{cluster}/{system_id}/{LEASES}");
        for name in self.storage.names(&leases).await? {
            let other = format!("{leases}/{name}");
            if other == key {
                continue;
            }
            if let Some(Ok(lease)) = self.note::<Lease>(&other).await?
                && lease.is_alive(Some(instance), &other)
            {
                self.storage.delete(&key).await?;
                let label = name.trim_end_matches(".json");
                return Err(Error::Busy { what: format!("the backup {label}"), since: lease.started_at });
            }
        }
        let store_time = self.stored_at(&key).await?;
        let (cluster, system_id) = (cluster.to_owned(), system_id.to_owned());
        Ok(Expiry { repository: self.clone(), cluster, system_id, store_time, _active: active })
    }

    /// The lease of an expiry, which all others wait for. C42: one that nobody trusted has signed stops nobody. Other leases are not
    /// signed: whoever reads or copies holds them too, and has no key.
    pub(super) async fn expiry_at_work(&self, key: &str) -> Result<Option<Lease>, Error> {
        match self.signed_note(key).await? {
            Some(Err(error)) => {
                tracing::warn!(repository = self.name, "skipped: {error}");
                Ok(None)
            }
            found => Ok(found.and_then(Result::ok)),
        }
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
            let leased: BTreeSet<String> = leased.map(str::to_owned).collect();
            let mut labels = leased.clone();
            labels.extend(self.storage.names(&format!("{cluster}/{system_id}/backups")).await?);
            let places = labels.into_iter().map(|label| BackupRef {
                cluster: cluster.into(),
                system_id: system_id.clone(),
                label,
            });
            let reads: Vec<BoxFuture<'_, _>> = places
                .map(|place| {
                    let has_lease = leased.contains(&place.label);
                    async move {
                        let published = match self.is_published(&place).await {
                            // C36: it is shown with the backups, and stops nobody.
                            Err(error @ Error::Damaged { .. }) => {
                                tracing::warn!(repository = self.name, "left alone: {error}");
                                return Ok(None);
                            }
                            answers => answers?,
                        };
                        // Most have none, and are what they seem.
                        Ok::<_, Error>((!published || has_lease).then_some((place, published)))
                    }
                    .boxed()
                })
                .collect();
            let answers: Vec<_> = stream::iter(reads).buffered(CONCURRENT).try_collect().await?;
            for (place, published) in answers.into_iter().flatten() {
                let dead = match self.note::<Lease>(&place.lease()).await? {
                    Some(Ok(lease)) => lease.is_dead(instance, &place.lease()),
                    // Of whom it is nobody can say; one object must not stop all backups.
                    Some(Err(error)) => {
                        tracing::warn!(repository = self.name, "left alone: {error}");
                        false
                    }
                    None => true,
                };
                // A lease is checked after its backup: it may have been published in between.
                match (dead, published || self.is_published(&place).await?) {
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
}
