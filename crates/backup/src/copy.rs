//! Copying backups and WAL from one repository to another: by hand, to catch up one that was dropped from a backup, and
//! to keep two in step.

use crate::{
    Catalogue, Error, Health,
    reading::{reading, reading_wal},
    wal::needed,
};
use pgbosun_core::{human, wal::WalFile};
use pgbosun_repository::{
    Active, BackupInfo, BackupRef, EncodedWal, Encoding, Frames, HEARTBEAT, ObjectKind, Repository, WalArchive,
    WalObject, copy_object,
};
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Labels.
    pub backups: Vec<String>,
    /// Files of WAL.
    pub wal: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Copies a backup with what it builds upon; what is there already is left alone. Returns the labels copied.
///
/// # Errors
/// What either repository answered; then the target lists nothing of it.
pub async fn copy_backup(
    from: &Repository,
    to: &Repository,
    info: &BackupInfo,
    instance: Uuid,
    cancel: &CancellationToken,
) -> Result<Copied, Error> {
    to.admit(&info.cluster, &info.system_id).await?;
    // C27: damage is not spread, and nothing is put on top of damage.
    let (source, target) =
        (Catalogue::read(from, Some(&info.cluster)).await?, Catalogue::read(to, Some(&info.cluster)).await?);
    let entry = source.find(&info.place()).ok_or_else(|| pgbosun_repository::Error::NoBackup(info.label.clone()))?;
    let refused = |repository: &Repository, health: &Health| {
        Error::Refused(format!("{} cannot be copied: in {}, {health}", info.label, repository.name))
    };
    if !entry.health().is_good() {
        return Err(refused(from, entry.health()));
    }
    let mut lacking = Vec::new();
    for info in source.chain(entry).links {
        if let Some(there) = target.find(&info.place()).filter(|there| !there.health().is_good()) {
            return Err(refused(to, there.health()));
        }
        let place = info.place();
        // C42: what is there and cannot be used is no copy of it, and is not written over either.
        match to.find(Some(&place.cluster), &place.label).await {
            Ok(_) => continue,
            Err(pgbosun_repository::Error::NoBackup(_)) => lacking.push(info),
            Err(error) => return Err(error.into()),
        }
        // C42: nor is anything called copied that nobody would believe.
        to.check_copy(&encrypted(to, info), from.signature(&place).await?.as_deref())?;
    }
    to.check_space(lacking.iter().map(|info| info.stored_bytes).sum()).await?;
    let mut copied = Copied::default();
    for info in lacking {
        let place = info.place();
        let _active = Active::claim(&place.lease());
        to.begin(&place, instance).await?;
        let done = tokio::select! {
            done = reading(from, info, "a copy", copy_objects(from, to, info)) => done,
            () = announced(to, &place, instance) => Err(Error::Cancelled),
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        match done {
            Ok(info) => {
                copied.bytes += info.stored_bytes;
                copied.backups.push(info.label);
            }
            Err(error) => {
                if let Err(error) = to.remove(&place).await {
                    tracing::warn!(repository = to.name, "leftover not removed: {}", human::chain(&error));
                }
                return Err(error);
            }
        }
    }
    Ok(copied)
}

/// Says from time to time that we are at work; never returns.
async fn announced(to: &Repository, place: &BackupRef, instance: Uuid) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if let Err(error) = to.renew(place, instance).await {
            tracing::warn!(repository = to.name, "lease not renewed: {}", human::chain(&error));
        }
    }
}

/// A backup with what a repository encrypts that was not encrypted before.
fn encrypted(to: &Repository, info: &BackupInfo) -> BackupInfo {
    let mut there = info.clone();
    if there.encrypted_to.is_empty() {
        there.encrypted_to = to.options.encrypt_to.clone();
    }
    there
}

async fn copy_objects(from: &Repository, to: &Repository, info: &BackupInfo) -> Result<BackupInfo, Error> {
    let place = info.place();
    let directory = place.prefix();
    let mut there = encrypted(to, info);
    there.objects.clear();
    for object in &info.objects {
        there.objects.push(copy_object(from, to, &directory, object).await?);
    }
    there.stored_bytes = there.objects.iter().map(|object| object.size).sum();
    if info.object(ObjectKind::Wal).is_none() {
        Box::pin(copy_needed_wal(from, to, info)).await?;
    }
    // C11: an expiry may have been there meanwhile.
    if let Some(parent) = &info.parent {
        to.find(Some(&info.cluster), parent).await?;
    }
    // C42: where this host does not sign, a copy that is the same to the byte has the original's signature.
    let signature = from.signature(&place).await?;
    to.publish_copy(&place, &there, signature.as_deref()).await?;
    if let Some(passed) = from.notes(std::slice::from_ref(info)).await?.first().and_then(|notes| notes.verified) {
        to.note_verified(&place, passed).await?;
    }
    Ok(there)
}

/// Copies the WAL that `to` lacks; `since` leaves out what retention has removed there on purpose: segments before the
/// oldest backup that is there.
///
/// # Errors
/// What either repository answered; what was copied stays.
pub async fn copy_wal(
    from: &Repository,
    to: &Repository,
    cluster: &str,
    system_id: &str,
    cancel: &CancellationToken,
) -> Result<Copied, Error> {
    let work = copy_wal_held(from, to, cluster, system_id, cancel);
    reading_wal(from, (cluster, system_id), "a copy of WAL", work).await
}

async fn copy_wal_held(
    from: &Repository,
    to: &Repository,
    cluster: &str,
    system_id: &str,
    cancel: &CancellationToken,
) -> Result<Copied, Error> {
    to.prepare().await?;
    let (source, target) = (WalArchive::new(from, cluster, system_id), WalArchive::new(to, cluster, system_id));
    let present: BTreeSet<_> = target.list().await?.into_iter().map(|object| (object.file, object.sha256)).collect();
    let (backups, _) = to.backups(Some(cluster)).await?;
    let own = backups.iter().filter(|info| info.system_id == system_id);
    let oldest = own.min_by_key(|info| info.start_lsn).map(|info| (info.start_lsn, info.wal_segment_size));
    let encoding = (Encoding::of(&to.options), Arc::default());
    let mut copied = Copied::default();
    for object in source.list().await? {
        let before = |segment: pgbosun_core::wal::Segment| {
            oldest.is_some_and(|(lsn, size)| segment.next(size).start(size) <= lsn)
        };
        let known = present.contains(&(object.file.clone(), object.sha256.clone()));
        if known || object.file.segment().is_some_and(before) {
            continue;
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(size) = copy_file(&source, &target, &object, &encoding).await? {
            copied.wal += 1;
            copied.bytes += size;
        }
    }
    Ok(copied)
}

/// C14: a backup without WAL of its own is none without what makes it consistent.
async fn copy_needed_wal(from: &Repository, to: &Repository, info: &BackupInfo) -> Result<(), Error> {
    let archive = |repository| WalArchive::new(repository, &info.cluster, &info.system_id);
    let (source, target) = (archive(from), archive(to));
    let segments = needed(&source, info).await?;
    let mut wanted = segments.map_err(|words| {
        let (label, name) = (&info.label, &from.name);
        Error::Refused(format!("{label} is not copied, since it has no WAL of its own: in repository {name}, {words}"))
    })?;
    for timeline in 2..=info.timeline {
        wanted.extend(source.find(&WalFile::History(timeline)).await?);
    }
    let encoding = (Encoding::of(&to.options), Arc::default());
    for object in &wanted {
        copy_file(&source, &target, object, &encoding).await?;
    }
    Ok(())
}

/// Copies a file of WAL; returns the bytes stored, or none where it was there.
async fn copy_file(
    source: &WalArchive,
    target: &WalArchive,
    object: &WalObject,
    (encoding, frames): &(Encoding, Arc<Frames>),
) -> Result<Option<u64>, Error> {
    let plain = source.get(object).await?;
    let encoded = Box::pin(EncodedWal::of(encoding, frames, &object.file, &object.sha256, &plain)).await?;
    let size = encoded.size();
    Ok(target.put(&object.file, &encoded.copy_of(object)).await?.then_some(size))
}
