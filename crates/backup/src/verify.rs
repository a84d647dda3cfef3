//! Verification of one backup without restoring it: every object is read once, and everything that was written down
//! about it is compared with what is there.

use crate::{
    Error, Progress,
    manifest::{self, Expected},
};
use pgbosun_core::lsn::Lsn;
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Object, ObjectKind, Repository, read_volume};
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
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
}

/// What the files of a volume turned out to be.
struct Volume {
    files: Vec<(String, u64, String)>,
    wal_starts: Vec<(String, Vec<u8>)>,
}

/// Verifies one backup. A damaged object is a result, not an error.
///
/// # Errors
/// Where the repository is out of reach, or somebody asked to stop.
pub async fn verify(
    repository: &Repository,
    info: &BackupInfo,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Verified, Error> {
    let mut faults = Faults::default();
    let mut seen: HashMap<String, (u64, String)> = HashMap::new();
    let mut segments = BTreeSet::new();
    let place = info.place();
    progress.expect(info.stored_bytes);
    for object in &info.objects {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let key = place.key(&object.name);
        match repository.storage.stat(&key).await? {
            None => faults.missing.push(format!("{} is not there", object.name)),
            Some(size) if size != object.size => {
                faults.missing.push(format!("{} has {size} bytes instead of {}", object.name, object.size));
            }
            Some(_) => match read(repository, &key, object).await {
                Ok(volume) => {
                    check_wal_starts(info, &volume, &mut faults);
                    check_listing(object, &volume, &mut faults);
                    for (name, size, crc) in volume.files {
                        match object.kind {
                            ObjectKind::Data => drop(seen.insert(name, (size, crc))),
                            ObjectKind::Tablespace(oid) => {
                                drop(seen.insert(format!("pg_tblspc/{oid}/{name}"), (size, crc)))
                            }
                            ObjectKind::Wal => drop(segments.insert(name)),
                            ObjectKind::Config | ObjectKind::Manifest => {}
                        }
                    }
                }
                Err(error @ Error::Repository(RepositoryError::Damaged { .. })) => {
                    faults.damaged.push(error.to_string())
                }
                Err(error) => return Err(error),
            },
        }
        progress.add(object.size);
    }
    let expected = read_manifest(repository, info, &mut faults).await?;
    if faults.missing.is_empty() && faults.damaged.is_empty() && faults.manifest.is_empty() {
        compare(&expected, &seen, &mut faults);
    }
    check_segments(info, &segments, &mut faults);
    let check = |name, faults: Vec<String>, good: String| Check {
        name,
        passed: faults.is_empty(),
        detail: if faults.is_empty() { good } else { faults.join("\n") },
    };
    Ok(Verified {
        label: info.label.clone(),
        checks: vec![
            check("objects", faults.missing, format!("{} objects present with their sizes", info.objects.len())),
            check("checksums", faults.damaged, "every object has its SHA-256 and decompresses".into()),
            check("manifest", faults.manifest, format!("{} files, its own checksum matches", expected.len())),
            check("contents", faults.contents, format!("{} files agree with the manifest", seen.len())),
            check("wal", faults.wal, format!("{} to {} is complete", info.start_lsn, info.stop_lsn)),
        ],
    })
}

async fn read(repository: &Repository, key: &str, object: &Object) -> Result<Volume, Error> {
    let (kind, name) = (object.kind, object.name.clone());
    read_volume(repository.storage.as_ref(), key, object, move |reader| {
        let mut volume = Volume { files: Vec::new(), wal_starts: Vec::new() };
        if kind == ObjectKind::Manifest {
            return Ok(volume);
        }
        let damaged = |reason: String| Error::from(RepositoryError::Damaged { object: name.clone(), reason });
        let broken = |error: std::io::Error| damaged(format!("it is no readable tar: {error}"));
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(broken)?.to_string_lossy().into_owned();
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

/// `backup.json` says which file is in which volume: a restore of one relation relies on it.
fn check_listing(object: &Object, volume: &Volume, faults: &mut Faults) {
    let found: BTreeSet<&str> = volume.files.iter().map(|(name, ..)| name.as_str()).collect();
    let listed: BTreeSet<&str> = object.files.iter().map(String::as_str).collect();
    if let Some(name) = found.iter().find(|name| !listed.contains(*name)) {
        faults.contents.push(format!("{}: {name} is in the volume and not in backup.json", object.name));
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
    Ok(manifest::parse(&bytes).unwrap_or_else(|reason| {
        faults.manifest.push(reason);
        HashMap::new()
    }))
}

fn compare(expected: &HashMap<String, Expected>, seen: &HashMap<String, (u64, String)>, faults: &mut Faults) {
    for (path, file) in expected {
        match seen.get(path) {
            None => faults.contents.push(format!("{path} is in the manifest and in no volume")),
            Some((size, _)) if *size != file.size => {
                faults.contents.push(format!("{path} has {size} bytes, the manifest says {}", file.size));
            }
            Some((_, crc)) if file.crc32c.as_ref().is_some_and(|expected| expected != crc) => {
                faults.contents.push(format!("{path} does not have the checksum of the manifest"));
            }
            Some(_) => {}
        }
    }
    for path in seen.keys().filter(|path| !expected.contains_key(*path)) {
        faults.contents.push(format!("{path} is in a volume and not in the manifest"));
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
    let mut at = info.start_lsn.segment_start(info.wal_segment_size);
    while at < info.stop_lsn {
        let name = at.segment_name(info.timeline, info.wal_segment_size);
        if !segments.contains(&name) {
            faults.wal.push(format!("{name} is missing"));
        }
        at = Lsn(at.0 + info.wal_segment_size);
    }
}
