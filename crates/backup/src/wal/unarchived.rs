//! What a data directory has in its `pg_wal` and no archive has: what was committed last, which a restore in its place does away with.

use super::{Event, Header, Scanner};
use crate::Error;
use chrono::{DateTime, Utc};
use pgbosun_core::wal::{Segment, WalFile};
use pgbosun_repository::{Repository, WalArchive};
use std::{fs, path::Path};

/// Segments that are nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unarchived {
    /// Which, in order.
    pub segments: Vec<Segment>,
    /// Transactions that end in them.
    pub transactions: u64,
    /// When the last of those ended.
    pub last: DateTime<Utc>,
}

/// Looks for WAL in a data directory that holds the end of transactions, and is in none of these repositories. Nothing where no
/// archive was ever begun: what is only there no restore could use.
///
/// # Errors
/// [`Error::File`]; that a repository cannot be asked is no error, and its copy is none.
pub async fn unarchived(
    data: &Path,
    repositories: &[Repository],
    cluster: &str,
    system_id: &str,
) -> Result<Option<Unarchived>, Error> {
    let archives: Vec<_> = repositories.iter().map(|place| WalArchive::new(place, cluster, system_id)).collect();
    let mut is_begun = false;
    for archive in &archives {
        is_begun |= archive.is_begun().await.unwrap_or(false);
    }
    let directory = data.join("pg_wal");
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(None) };
    if !is_begun {
        return Ok(None);
    }
    let mut there: Vec<_> = entries
        .flatten()
        .filter_map(|entry| match WalFile::parse(entry.file_name().to_str()?)? {
            WalFile::Segment(segment) => Some(segment),
            _ => None,
        })
        .collect();
    there.sort_unstable();
    let (mut scanner, mut found) = (Scanner::default(), None::<Unarchived>);
    for segment in there {
        if is_archived(&archives, &WalFile::Segment(segment)).await {
            continue;
        }
        let path = directory.join(segment.to_string());
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        // One that was made ready for later is empty, or has an earlier one's contents.
        if Header::read(&bytes).is_none_or(|header| header.fault(segment, system_id).is_some()) {
            continue;
        }
        scanner.segment(&bytes, &mut |event| {
            let Event::End { time, .. } = event else { return };
            let found = found.get_or_insert_with(|| Unarchived { segments: Vec::new(), transactions: 0, last: time });
            found.transactions += 1;
            found.last = found.last.max(time);
            if found.segments.last() != Some(&segment) {
                found.segments.push(segment);
            }
        });
    }
    Ok(found)
}

/// Whether one of the archives has a file; one that cannot be asked has it not.
pub(crate) async fn is_archived(archives: &[WalArchive], file: &WalFile) -> bool {
    for archive in archives {
        if matches!(archive.find(file).await, Ok(Some(_))) {
            return true;
        }
    }
    false
}
