//! Verification of one backup without restoring it: every object is read once, and everything that was written down
//! about it is compared with what is there.

mod archive;
mod tally;

pub use archive::verify_archive;

use crate::{
    Catalogue, Error, Progress, another,
    manifest::{self, Expected},
    member,
    reading::reading,
    restore::{Assembly, Link},
    wal::needed,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use pgbosun_core::{human, name::to_text, wal::Segment};
use pgbosun_repository::{
    BackupInfo, BackupRef, Error as RepositoryError, KeyError, Object, ObjectKind, Repository, WalArchive,
    check_stored, is_encrypted, read_volume,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Read,
    sync::Arc,
};
use tally::{Few, Tally};
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

/// What came of one object.
enum Found {
    Whole(tally::Found),
    /// Its hash is right, and without a key no more can be said.
    Sealed,
    Missing(String),
    Damaged(String),
}

/// The files of each volume.
type Listed = BTreeMap<String, Vec<String>>;

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
    let (mut sealed, mut all) = (0, tally::Found::default());
    let listed = files(repository, info, &mut faults).await?;
    let expected = read_manifest(repository, info, &mut faults).await?;
    let in_manifest = expected.len();
    let tally = Arc::new(Tally::new(info, expected, listed));
    let lost = repository.lost_objects(info).await?;
    progress.step(format!("verifying {} in {}", info.label, repository.name), info.stored_bytes);
    let reads: Vec<BoxFuture<'_, _>> = info
        .objects
        .iter()
        .map(|object| {
            let (lost, tally) = (lost.get(&object.name), Arc::clone(&tally));
            async move {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let read = match lost {
                    Some(words) => Found::Missing(words.clone()),
                    None => read(repository, object, tally).await?,
                };
                progress.add(object.size);
                Ok(read)
            }
            .boxed()
        })
        .collect();
    let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
    while let Some(read) = reads.next().await {
        match read? {
            Found::Whole(found) => all.append(found),
            Found::Sealed => sealed += 1,
            Found::Missing(words) => faults.missing.push(words),
            Found::Damaged(words) => faults.damaged.push(words),
        }
    }
    drop(reads);
    let (listed, unseen) = Arc::into_inner(tally)
        .map(Tally::end)
        .ok_or_else(|| Error::Interrupted("a reader of the backup has not ended".into()))?;
    faults.contents.extend(all.misplaced.words());
    faults.wal.extend(all.wal.words());
    if sealed == 0 && faults.missing.is_empty() && faults.damaged.is_empty() && faults.manifest.is_empty() {
        faults.contents.extend(all.unlike.words().into_iter().chain(unseen.words()));
    }
    let own_wal = info.object(ObjectKind::Wal).is_some();
    if !own_wal {
        // C14: each repository stands by itself.
        let archive = WalArchive::new(repository, &info.cluster, &info.system_id);
        faults.wal.extend(needed(&archive, info).await?.err());
    } else if sealed == 0 {
        check_segments(info, &all.segments, &mut faults);
    }
    faults.wal.extend(another::backup(repository, info).await?);
    let chain = check_chain(repository, info, listed, &mut faults).await?;
    let check = |name, faults: Vec<String>, good: String| Check {
        name,
        passed: faults.is_empty(),
        detail: if faults.is_empty() { good } else { faults.join("\n") },
    };
    let unread = || "not checked: it is encrypted, and no identity is configured here".to_owned();
    let within = |words: String| if sealed > 0 { unread() } else { words };
    let wal = match own_wal {
        true => within(format!("{} to {} is complete", info.start_lsn, info.stop_lsn)),
        false => format!("{} to {} is in the WAL archive", info.start_lsn, info.stop_lsn),
    };
    let stored = if sealed > 0 {
        "every object has the right SHA-256"
    } else {
        "every object has the right SHA-256 and decodes"
    };
    Ok(Verified {
        label: info.label.clone(),
        checks: vec![
            check(
                "objects",
                faults.missing,
                format!("{} present, with the right sizes", human::count(info.objects.len(), "object")),
            ),
            check("checksums", faults.damaged, stored.into()),
            check(
                "manifest",
                faults.manifest,
                format!("{}, its own checksum matches", human::count(in_manifest, "file")),
            ),
            check(
                "contents",
                faults.contents,
                within(format!("{} as in the manifest", human::count(all.files, "file"))),
            ),
            check("wal", faults.wal, wal),
            check("chain", faults.chain, chain),
        ],
    })
}

/// Reads one object to its end.
async fn read(repository: &Repository, object: &Object, tally: Arc<Tally>) -> Result<Found, Error> {
    let key = tally.info.place().key(&object.name);
    let read = if is_encrypted(&object.name) && repository.identities()?.is_empty() {
        check_stored(repository, &key, object).await.map(|()| Found::Sealed).map_err(Error::from)
    } else {
        read_volume_of(repository, &key, object, tally).await.map(Found::Whole)
    };
    match read {
        Err(error @ Error::Repository(RepositoryError::Damaged { .. })) => Ok(Found::Damaged(error.to_string())),
        // It went after the listing.
        Err(Error::Repository(error)) if error.is_missing() => {
            Ok(Found::Missing(format!("{} is missing", object.name)))
        }
        other => other,
    }
}

async fn read_volume_of(
    repository: &Repository,
    key: &str,
    object: &Object,
    tally: Arc<Tally>,
) -> Result<tally::Found, Error> {
    let read = object.clone();
    read_volume(repository, key, object, move |reader| {
        let (kind, name) = (read.kind, &read.name);
        let mut volume = tally.volume(&read);
        if matches!(kind, ObjectKind::Manifest | ObjectKind::Index) {
            return Ok(volume.found);
        }
        let damaged = |reason: String| Error::from(RepositoryError::Damaged { object: name.clone(), reason });
        let broken = |error: std::io::Error| damaged(format!("it is not a readable tar: {error}"));
        let mut archive = member::archive(reader);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            // What a restore refuses is no good backup.
            member::check(&entry).map_err(|error| damaged(error.to_string()))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = to_text(&entry.path_bytes());
            let mut beginning = Vec::new();
            if kind == ObjectKind::Wal {
                beginning.resize(40.min(usize::try_from(entry.size()).unwrap_or(0)), 0);
                entry.read_exact(&mut beginning).map_err(broken)?;
            }
            let (size, crc) = manifest::measure(&mut entry).map_err(broken)?;
            volume.member(&path, &beginning, size, &crc);
        }
        Ok(volume.found)
    })
    .await
}

/// The list of files, where it can be read.
async fn files(repository: &Repository, info: &BackupInfo, faults: &mut Faults) -> Result<Option<Listed>, Error> {
    match repository.files(info).await {
        Ok(files) => Ok(Some(files)),
        // It may have its checksum and say nonsense, which a restore refuses.
        Err(error @ RepositoryError::Damaged { .. }) => {
            faults.contents.push(error.to_string());
            Ok(None)
        }
        // Found again with the objects, where that is told.
        Err(RepositoryError::Key(_)) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// C11, C27: what an incremental backup builds on must be there and good, down to a full one, and the chain must put together
/// every file: the restore is planned as a whole, from the lists of files. Returns what was found in words.
async fn check_chain(
    repository: &Repository,
    info: &BackupInfo,
    listed: Option<Listed>,
    faults: &mut Faults,
) -> Result<String, Error> {
    let Some(label) = &info.parent else {
        // A list that cannot be read is told where it is read.
        let links = listed.map(|files| vec![Link { info: info.clone(), files }]);
        let planned = links.map(|links| Assembly { links }.volumes(&HashSet::new()));
        faults.chain.extend(planned.and_then(Result::err).map(|error| error.to_string()));
        return Ok("a full backup".into());
    };
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
            Ok(format!("builds on {label}; every file is complete in the chain of {count}"))
        }
        // The lists of files are sealed, like the rest.
        Err(Error::Repository(RepositoryError::Key(KeyError::Missing { .. }))) => {
            Ok(format!("builds on {label}, which is there; where each file comes from cannot be read without a key"))
        }
        // Who has keys, and none that fits, cannot restore it either.
        Err(Error::Repository(
            error @ (RepositoryError::Damaged { .. }
            | RepositoryError::NoBackup(_)
            | RepositoryError::Key(KeyError::Other { .. })),
        )) => {
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
        faults.manifest.push("it is missing".into());
        return Ok(HashMap::new());
    }
    let bytes = pgbosun_repository::read_object(repository.storage.as_ref(), &key).await?;
    // What was compared before may be another by now.
    if hex::encode(Sha256::digest(&bytes)) != object.sha256 {
        faults.manifest.push("its SHA-256 is not the recorded one".into());
        return Ok(HashMap::new());
    }
    Ok(manifest::parse(&bytes, info.most_files()).unwrap_or_else(|reason| {
        faults.manifest.push(reason);
        HashMap::new()
    }))
}

fn check_segments(info: &BackupInfo, segments: &BTreeSet<Segment>, faults: &mut Faults) {
    let segments: HashSet<_> = segments.iter().map(ToString::to_string).collect();
    let mut missing = Few::default();
    for name in info.own_segments().filter(|name| !segments.contains(name)) {
        missing.push(|| format!("{name} is missing"));
    }
    faults.wal.extend(missing.words());
}
