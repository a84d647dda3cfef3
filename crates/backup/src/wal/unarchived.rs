//! What a data directory has in its `pg_wal` and no archive has: what was committed last, which a restore in its place does away with.

use super::{Event, Header, Scanner};
use crate::Error;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_repository::{Repository, WalArchive};
use std::{fs, path::Path};

/// WAL that is nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unarchived {
    /// The files, in the order in which an archive wants them: up to the last in which a transaction ends, with the history of its
    /// timeline.
    pub files: Vec<WalFile>,
    /// Transactions that end in them.
    pub transactions: u64,
    /// When the last of those ended.
    pub last: DateTime<Utc>,
}

/// Looks for WAL in a data directory that holds the end of transactions and is in none of these repositories. Nothing where no archive was
/// ever begun: what is only there no restore could use.
///
/// # Errors
/// [`Error::File`]; that a repository cannot be asked is no error, and its copy is none.
pub async fn unarchived(
    data: &Path,
    repositories: &[Repository],
    cluster: &str,
    system_id: &str,
) -> Result<Option<Unarchived>, Error> {
    let directory = data.join("pg_wal");
    let (mut there, mut histories) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        match entry.file_name().to_str().and_then(WalFile::parse) {
            // One that was made ready for later is empty, or has an earlier one's contents.
            Some(WalFile::Segment(segment)) if belongs(&entry.path(), segment, system_id) => there.push(segment),
            Some(file @ WalFile::History(_)) => histories.push(file),
            _ => {}
        }
    }
    if there.is_empty() {
        return Ok(None);
    }
    let archives: Vec<_> = repositories.iter().map(|place| WalArchive::new(place, cluster, system_id)).collect();
    let mut is_begun = false;
    for archive in &archives {
        is_begun |= archive.is_begun().await.unwrap_or(false);
    }
    if !is_begun {
        return Ok(None);
    }
    there.sort_unstable();
    let mut ends = Vec::new();
    for segment in &there {
        // The server itself had it archived, which is whole; by hand it may have been before the server had filled it.
        let is_done = directory.join(format!("archive_status/{segment}.done")).exists();
        ends.push(archived_end(&archives, *segment, is_done).await);
    }
    let (mut scanner, mut found, mut files) = (Scanner::default(), None::<Unarchived>, Vec::new());
    for (index, segment) in there.iter().enumerate() {
        // A record may begin in an archived one and end behind it.
        let is_archived = |index: usize| ends.get(index).is_some_and(|end| *end == Some(Lsn(u64::MAX)));
        if is_archived(index) && (index..there.len()).take(3).all(is_archived) {
            continue;
        }
        let path = directory.join(segment.to_string());
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        let mut times = Vec::new();
        scanner.segment(&bytes, &mut |event| {
            if let Event::End { at, time, .. } = event
                && ends[index].is_none_or(|end| at >= end)
            {
                times.push(time);
            }
        });
        if !is_archived(index) {
            files.push(WalFile::Segment(*segment));
        }
        let Some(last) = times.iter().max() else { continue };
        let found =
            found.get_or_insert_with(|| Unarchived { files: Vec::new(), transactions: 0, last: DateTime::UNIX_EPOCH });
        found.transactions += times.len() as u64;
        found.last = found.last.max(*last);
        found.files.append(&mut files);
    }
    let Some(found) = &mut found else { return Ok(None) };
    let timeline = there.iter().map(|segment| segment.timeline).max();
    for file in histories {
        if timeline.is_some_and(|timeline| file == WalFile::History(timeline)) && !is_archived(&archives, &file).await {
            found.files.insert(0, file);
        }
    }
    Ok(Some(found.clone()))
}

fn belongs(path: &Path, segment: Segment, system_id: &str) -> bool {
    Header::of_file(path).is_some_and(|header| header.fault(segment, system_id).is_none())
}

/// Up to where an archive has a segment: to its end where that `is_done`, else as far as its records go.
async fn archived_end(archives: &[WalArchive], segment: Segment, is_done: bool) -> Option<Lsn> {
    let mut end = None;
    for archive in archives {
        let Ok(Some(object)) = archive.find(&WalFile::Segment(segment)).await else { continue };
        if is_done {
            return Some(Lsn(u64::MAX));
        }
        let Ok(bytes) = archive.get(&object).await else { continue };
        let mut scanner = Scanner::default();
        let whole = scanner.segment(&bytes, &mut |_| {});
        end = end.max(Some(if whole { Lsn(u64::MAX) } else { scanner.end() }));
    }
    end
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
