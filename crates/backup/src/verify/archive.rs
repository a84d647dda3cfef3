//! Verification of what lies beside the backups: the WAL archive, and the small objects that describe the repository.

use super::{Check, Verified};
use crate::{
    Catalogue, Error, Health, Progress,
    reading::reading_wal,
    restore::{GAP_PAUSE, GAP_TRIES},
    wal::{self, Archive},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use pgbosun_core::human;
use pgbosun_repository::{Error as RepositoryError, Repository, WalArchive, WalContents, is_encrypted};
use tokio_util::sync::CancellationToken;

/// Files of WAL that are read at the same time.
const PARALLEL: usize = 4;

/// Reads every file of a cluster's WAL archive and every small object. A damaged one is a result, not an error.
///
/// # Errors
/// Where the repository is out of reach, or somebody asked to stop.
pub async fn verify_archive(
    repository: &Repository,
    cluster: &str,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Verified, Error> {
    let (small, damaged) = repository.check_small_objects(cluster).await?;
    let (mut conflicts, mut untrusted) = (Vec::new(), Vec::new());
    let (mut faults, mut files, mut sealed) = (Vec::new(), 0_u64, 0_u64);
    let (mut gaps, mut unlooked) = (Vec::new(), None);
    for system_id in repository.system_ids(cluster).await? {
        let work = async {
            let (mut missing, unknown) = gaps_of(repository, cluster, &system_id).await?;
            // Several segments are archived at once: for a moment a later one may be there before an earlier.
            for _ in 1..GAP_TRIES {
                if !missing.is_empty() {
                    tokio::time::sleep(GAP_PAUSE).await;
                    let (still, _) = gaps_of(repository, cluster, &system_id).await?;
                    missing.retain(|gap| still.contains(gap));
                }
            }
            gaps.extend(missing);
            unlooked = unlooked.take().or(unknown);
            let archive = WalArchive::new(repository, cluster, &system_id);
            let contents = archive.contents().await?;
            conflicts.extend(contents.conflicts().map(|file| format!("{file} is there with different contents")));
            let WalContents { believed: objects, untrusted: unsigned } = contents;
            untrusted.extend(unsigned.iter().map(|object| object.untrusted().to_string()));
            let total = objects.iter().map(|object| object.size).sum();
            progress.step(format!("verifying the WAL archive in {}", repository.name), total);
            let keyless = repository.identities()?.is_empty();
            let (archive, system_id) = (&archive, system_id.as_str());
            let reads: Vec<BoxFuture<'_, Result<Option<Option<String>>, Error>>> = objects
                .iter()
                .map(|object| {
                    async move {
                        if cancel.is_cancelled() {
                            return Err(Error::Cancelled);
                        }
                        progress.add(object.size);
                        if keyless && is_encrypted(&object.key) {
                            return Ok(None);
                        }
                        let fault = match archive.get(object).await {
                            Ok(bytes) => wal::check_segment(&object.file, &bytes, bytes.len() as u64, system_id).err(),
                            Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Key(_))) => {
                                Some(error.to_string())
                            }
                            Err(error) => return Err(error.into()),
                        };
                        Ok(Some(fault.map(|fault| format!("{}: {fault}", object.file))))
                    }
                    .boxed()
                })
                .collect();
            let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
            while let Some(read) = reads.next().await {
                files += 1;
                match read? {
                    None => sealed += 1,
                    Some(fault) => faults.extend(fault),
                }
            }
            Ok(())
        };
        reading_wal(repository, (cluster, &system_id), "a verification of WAL", Box::pin(work)).await?;
    }
    let check = |name, faults: Vec<String>, good: String| Check {
        name,
        passed: faults.is_empty(),
        detail: if faults.is_empty() { good } else { faults.join("\n") },
    };
    let read = if sealed > 0 {
        format!("{}, {sealed} not checked: encrypted, and no identity is configured here", human::count(files, "file"))
    } else {
        format!("{} with the contents that PostgreSQL archived", human::count(files, "file"))
    };
    let damaged = damaged.into_iter().map(|error| error.to_string()).collect();
    let continuity = match unlooked {
        Some(reason) => format!("not checked: the live timeline is unknown: {reason}"),
        None => "no segment is missing between backups, or after the newest".into(),
    };
    // C42
    let signatures = match repository.trusted_keys()?.is_empty() {
        true => "not checked: no trusted-keys are configured here",
        false => "every file is signed by a trusted key",
    };
    Ok(Verified {
        label: format!("WAL archive of {cluster}"),
        checks: vec![
            check("signatures", untrusted, signatures.into()),
            check("wal", faults, read),
            check("continuity", gaps, continuity),
            check("conflicts", conflicts, "no name has two contents".into()),
            check("objects", damaged, format!("{} with the right checksum", human::count(small, "small object"))),
        ],
    })
}

/// C34: segments that are missing after a backup while later ones are there. Where retention has removed the WAL after an older one,
/// nothing but what makes that one consistent is left of it, and nothing is missing. Beside them why not every backup could be looked
/// at: the history of a later timeline is sealed, or damaged, which is told where it is read.
async fn gaps_of(
    repository: &Repository,
    cluster: &str,
    system_id: &str,
) -> Result<(Vec<String>, Option<String>), Error> {
    let catalogue = Catalogue::read(repository, Some(cluster)).await?;
    // Nothing is to be reached from what lies on a dead branch.
    let on_line = catalogue.entries().iter().filter(|entry| !matches!(entry.health(), Health::Orphaned { .. }));
    let own: Vec<_> = on_line.map(|entry| &entry.info).filter(|info| info.system_id == system_id).collect();
    let Some(newest) = own.last() else { return Ok((Vec::new(), None)) };
    let size = newest.wal_segment_size;
    let archive = Archive::read(std::slice::from_ref(repository), cluster, system_id, size).await?;
    let (mut gaps, mut unknown) = (std::collections::BTreeSet::new(), None);
    for info in own.iter().filter(|info| info.wal_segment_size == size) {
        if let Some(error) = archive.unknown_line(info.timeline) {
            unknown = Some(error);
            continue;
        }
        let timeline = archive.lineage.towards(info.timeline);
        let from = archive.onward(timeline, info);
        let goes_on = info.label == newest.label || archive.way(timeline, from).nth(1).is_some();
        let missing = archive.missing(timeline, from).filter(|_| goes_on);
        gaps.extend(missing.map(|missing| {
            format!("{missing} is missing, but later ones exist: no moment after it can be reached from {}", info.label)
        }));
    }
    Ok((gaps.into_iter().collect(), unknown))
}
