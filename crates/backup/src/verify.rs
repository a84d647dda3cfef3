//! Verification of one backup without restoring it: every object is read once, and everything that was written down
//! about it is compared with what is there.

mod archive;

pub use archive::verify_archive;

use crate::{
    Catalogue, Error, Progress,
    manifest::{self, Expected},
    member,
    reading::reading,
    restore::Assembly,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use pgbosun_core::{human, lsn::Lsn, name::to_text};
use pgbosun_repository::{
    BackupInfo, BackupRef, Error as RepositoryError, Object, ObjectKind, Repository, check_stored, is_encrypted,
    read_volume,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Read,
};
use tokio_util::sync::CancellationToken;

/// One named test and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was tested.
    pub name: &'static str,
    /// Whether it held.
    pub passed: bool,
    /// What was found; each fault on its own line.
    pub detail: String,
}

/// The result of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Label of the backup.
    pub label: String,
    /// The tests, in order.
    pub checks: Vec<Check>,
}

impl Verified {
    /// Whether every test held.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

#[derive(Default)]
struct Faults {
    missing: Vec<String>,
    damaged: Vec<String>,
    manifest: Vec<String>,
    contents: Vec<String>,
    wal: Vec<String>,
    chain: Vec<String>,
}

/// What the files of a volume turned out to be.
#[derive(Default)]
struct Volume {
    files: Vec<(String, u64, String)>,
    wal_starts: Vec<(String, Vec<u8>)>,
}

/// What came of one object.
enum Found {
    Whole(Volume),
    /// Its hash is right, and without a key no more can be said.
    Sealed,
    Missing(String),
    Damaged(String),
}

/// Missing segments that are named; of more only the number says anything.
const NAMED: usize = 100;

/// Objects that are read at the same time.
const PARALLEL: usize = 4;

/// Verifies one backup. A damaged object is a result, not an error. Without a key for what is encrypted only the hashes
/// of what is stored are checked, and the result says so.
///
/// # Errors
/// Where the repository is out of reach, or somebody asked to stop.
pub async fn verify(
    repository: &Repository,
    info: &BackupInfo,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Verified, Error> {
    reading(repository, info, "a verification", Box::pin(verify_held(repository, info, progress, cancel))).await
}

async fn verify_held(
    repository: &Repository,
    info: &BackupInfo,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Verified, Error> {
    let mut faults = Faults::default();
    let mut seen: HashMap<String, (u64, String)> = HashMap::new();
    let mut segments = BTreeSet::new();
    let mut sealed = 0;
    let listed = files(repository, info, &mut faults).await?;
    let lost = repository.lost_objects(info).await?;
    progress.expect(info.stored_bytes);
    let reads: Vec<BoxFuture<'_, _>> = info
        .objects
        .iter()
        .map(|object| {
            let lost = lost.get(&object.name);
            async move {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let read = match lost {
                    Some(words) => Found::Missing(words.clone()),
                    None => read(repository, info, object).await?,
                };
                progress.add(object.size);
                Ok((object, read))
            }
            .boxed()
        })
        .collect();
    let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
    while let Some(read) = reads.next().await {
        let (object, read) = read?;
        let volume = match read {
            Found::Whole(volume) => volume,
            Found::Sealed => {
                sealed += 1;
                continue;
            }
            Found::Missing(words) => {
                faults.missing.push(words);
                continue;
            }
            Found::Damaged(words) => {
                faults.damaged.push(words);
                continue;
            }
        };
        check_wal_starts(info, &volume, &mut faults);
        if let Some(listed) = &listed {
            check_listing(object, &volume, listed, &mut faults);
        }
        for (name, size, crc) in volume.files {
            match object.kind {
                ObjectKind::Data | ObjectKind::Tablespace(_) => {
                    let path = match object.kind {
                        ObjectKind::Tablespace(oid) => format!("pg_tblspc/{oid}/{name}"),
                        _ => name,
                    };
                    if seen.insert(path.clone(), (size, crc)).is_some() {
                        faults.contents.push(format!("{path:?} is there twice"));
                    }
                }
                ObjectKind::Wal => drop(segments.insert(name)),
                ObjectKind::Config | ObjectKind::Manifest | ObjectKind::Index => {}
            }
        }
    }
    drop(reads);
    let expected = read_manifest(repository, info, &mut faults).await?;
    if sealed == 0 && faults.missing.is_empty() && faults.damaged.is_empty() && faults.manifest.is_empty() {
        compare(&expected, &seen, &mut faults);
    }
    let own_wal = info.object(ObjectKind::Wal).is_some();
    if own_wal && sealed == 0 {
        check_segments(info, &segments, &mut faults);
    }
    let chain = check_chain(repository, info, &mut faults).await?;
    let check = |name, mut faults: Vec<String>, good: String| {
        faults.sort();
        Check { name, passed: faults.is_empty(), detail: if faults.is_empty() { good } else { faults.join("\n") } }
    };
    let unread = || "not looked into: it is encrypted, and no identity is configured here".to_owned();
    let within = |words: String| if sealed > 0 { unread() } else { words };
    let wal = match own_wal {
        true => within(format!("{} to {} is complete", info.start_lsn, info.stop_lsn)),
        false => format!("{} to {} lies in the WAL archive", info.start_lsn, info.stop_lsn),
    };
    let stored = if sealed > 0 { "every object has its SHA-256" } else { "every object has its SHA-256 and decodes" };
    Ok(Verified {
        label: info.label.clone(),
        checks: vec![
            check("objects", faults.missing, format!("{} objects present with their sizes", info.objects.len())),
            check("checksums", faults.damaged, stored.into()),
            check("manifest", faults.manifest, format!("{} files, its own checksum matches", expected.len())),
            check("contents", faults.contents, within(format!("{} files agree with the manifest", seen.len()))),
            check("wal", faults.wal, wal),
            check("chain", faults.chain, chain),
        ],
    })
}

/// Reads one object to its end.
async fn read(repository: &Repository, info: &BackupInfo, object: &Object) -> Result<Found, Error> {
    let key = info.place().key(&object.name);
    let read = if is_encrypted(&object.name) && repository.identities()?.is_empty() {
        check_stored(repository, &key, object).await.map(|()| Found::Sealed).map_err(Error::from)
    } else {
        read_volume_of(repository, &key, object).await.map(Found::Whole)
    };
    match read {
        Err(error @ Error::Repository(RepositoryError::Damaged { .. })) => Ok(Found::Damaged(error.to_string())),
        other => other,
    }
}

async fn read_volume_of(repository: &Repository, key: &str, object: &Object) -> Result<Volume, Error> {
    let (kind, name) = (object.kind, object.name.clone());
    read_volume(repository, key, object, move |reader| {
        let mut volume = Volume::default();
        if matches!(kind, ObjectKind::Manifest | ObjectKind::Index) {
            return Ok(volume);
        }
        let damaged = |reason: String| Error::from(RepositoryError::Damaged { object: name.clone(), reason });
        let broken = |error: std::io::Error| damaged(format!("it is no readable tar: {error}"));
        let mut archive = member::archive(reader);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            // What a restore refuses is no good backup.
            member::check(&entry).map_err(|error| damaged(error.to_string()))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = to_text(&entry.path_bytes());
            if kind == ObjectKind::Wal {
                let mut header = vec![0; 40.min(usize::try_from(entry.size()).unwrap_or(0))];
                entry.read_exact(&mut header).map_err(broken)?;
                volume.wal_starts.push((path.clone(), header));
            }
            let (size, crc) = manifest::measure(&mut entry).map_err(broken)?;
            volume.files.push((path, size, crc));
        }
        Ok(volume)
    })
    .await
}

/// The list of files, where it can be read: it is damaged or sealed like any other object.
async fn files(
    repository: &Repository,
    info: &BackupInfo,
    faults: &mut Faults,
) -> Result<Option<BTreeMap<String, Vec<String>>>, Error> {
    match repository.files(info).await {
        Ok(files) => Ok(Some(files)),
        Err(RepositoryError::Damaged { reason, .. }) if info.object(ObjectKind::Index).is_none() => {
            faults.contents.push(reason);
            Ok(None)
        }
        // Found again with the objects, where its name and fault are told.
        Err(RepositoryError::Damaged { .. } | RepositoryError::Key(_)) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The list says which file is in which volume: restores rely on it.
fn check_listing(object: &Object, volume: &Volume, listed: &BTreeMap<String, Vec<String>>, faults: &mut Faults) {
    let Some(at) = object.name.find(".tar") else { return };
    let listed: BTreeSet<&str> = listed.get(&object.name[..at + 4]).into_iter().flatten().map(String::as_str).collect();
    if let Some((name, ..)) = volume.files.iter().find(|(name, ..)| !listed.contains(name.as_str())) {
        faults.contents.push(format!("{}: {name:?} is in the volume and not in the list of files", object.name));
    }
}

/// C11, C27: what an incremental backup builds on must be there and good, down to a full one, and the chain must put together
/// every file: the restore is planned as a whole, from the lists of files. Returns what was found in words.
async fn check_chain(repository: &Repository, info: &BackupInfo, faults: &mut Faults) -> Result<String, Error> {
    let Some(label) = &info.parent else { return Ok("a full backup".into()) };
    let catalogue = Catalogue::read(repository, Some(&info.cluster)).await?;
    let Some(entry) = catalogue.find(&info.place()) else {
        return Err(RepositoryError::NoBackup(info.label.clone()).into());
    };
    let chain = catalogue.chain(entry);
    if !entry.health().is_whole() {
        faults.chain.push(entry.health().to_string());
        return Ok(String::new());
    }
    let parent = BackupRef { label: label.clone(), ..info.place() };
    if let Some(parent) = catalogue.find(&parent).filter(|parent| !parent.health().is_sound()) {
        faults.chain.push(format!("it builds on {label}, and {}", parent.health()));
    }
    for link in chain.links.iter().filter(|link| link.label != info.label) {
        let lost = repository.lost_objects(link).await?;
        faults.chain.extend(lost.values().map(|words| format!("it builds on {}: {words}", link.label)));
    }
    let count = human::count(chain.links.len(), "backup");
    match Assembly::of(repository, &chain).await {
        Ok(assembly) => {
            if let Err(error) = assembly.volumes(&HashSet::new()) {
                faults.chain.push(error.to_string());
            }
            Ok(format!("builds on {label}; every file is whole in the chain of {count}"))
        }
        // The lists of files are sealed, like the rest.
        Err(Error::Repository(RepositoryError::Key(_))) => {
            Ok(format!("builds on {label}, which is there; which file comes from where cannot be read without a key"))
        }
        Err(Error::Repository(error @ (RepositoryError::Damaged { .. } | RepositoryError::NoBackup(_)))) => {
            faults.chain.push(error.to_string());
            Ok(String::new())
        }
        Err(Error::Repository(error)) if error.is_missing() => {
            faults.chain.push(human::chain(&error));
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

async fn read_manifest(
    repository: &Repository,
    info: &BackupInfo,
    faults: &mut Faults,
) -> Result<HashMap<String, Expected>, Error> {
    let Some(object) = info.objects.iter().find(|object| object.kind == ObjectKind::Manifest) else {
        faults.manifest.push("the backup has none".into());
        return Ok(HashMap::new());
    };
    let key = info.place().key(&object.name);
    if repository.storage.stat(&key).await?.is_none() {
        faults.manifest.push("it is not there".into());
        return Ok(HashMap::new());
    }
    let bytes = pgbosun_repository::read_object(repository.storage.as_ref(), &key).await?;
    // What was compared before may be another by now.
    if hex::encode(Sha256::digest(&bytes)) != object.sha256 {
        faults.manifest.push("its SHA-256 is not the one written down".into());
        return Ok(HashMap::new());
    }
    Ok(manifest::parse(&bytes).unwrap_or_else(|reason| {
        faults.manifest.push(reason);
        HashMap::new()
    }))
}

fn compare(expected: &HashMap<String, Expected>, seen: &HashMap<String, (u64, String)>, faults: &mut Faults) {
    for (path, file) in expected {
        match seen.get(path) {
            None => faults.contents.push(format!("{path:?} is in the manifest and in no volume")),
            Some((size, crc)) => {
                faults.contents.extend(file.difference(*size, crc).map(|reason| format!("{path:?} {reason}")));
            }
        }
    }
    for path in seen.keys().filter(|path| !expected.contains_key(*path)) {
        faults.contents.push(format!("{path:?} is in a volume and not in the manifest"));
    }
    faults.contents.sort();
}

/// C5: page address, system identifier and segment size in the header of each segment's first page.
fn check_wal_starts(info: &BackupInfo, volume: &Volume, faults: &mut Faults) {
    for (name, header) in volume.wal_starts.iter().filter(|(name, _)| !name.ends_with(".history")) {
        let field = |from: usize, to: usize| {
            header
                .get(from..to)
                .map_or(0, |bytes| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
        };
        let (address, system_id, segment_size) = (Lsn(field(8, 16)), field(24, 32), field(32, 36));
        if system_id.to_string() != info.system_id {
            faults.wal.push(format!("{name} belongs to system identifier {system_id}"));
        } else if segment_size != info.wal_segment_size || address.segment_name(info.timeline, segment_size) != *name {
            faults.wal.push(format!("{name} begins at {address}"));
        }
    }
}

fn check_segments(info: &BackupInfo, segments: &BTreeSet<String>, faults: &mut Faults) {
    let mut missing = info.segments().filter(|name| !segments.contains(name));
    faults.wal.extend(missing.by_ref().take(NAMED).map(|name| format!("{name} is missing")));
    let more = missing.count();
    if more > 0 {
        faults.wal.push(format!("and {more} more are missing"));
    }
}
