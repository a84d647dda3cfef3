//! The WAL that makes a backup consistent (C14), as one archive has it.

use super::archive::counts_as_missing;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_repository::{BackupInfo, Error, WalArchive, WalObject};

/// The segments from a backup's start to its end, or words about the first that is missing.
///
/// # Errors
/// What the repository answered.
pub(crate) async fn needed(archive: &WalArchive, info: &BackupInfo) -> Result<Result<Vec<WalObject>, String>, Error> {
    let (mut found, size) = (Vec::new(), info.wal_segment_size);
    let mut at = info.start_lsn.segment_start(size);
    while at < info.stop_lsn {
        let (mut there, mut how) = (None, "is missing from the archive".to_owned());
        // As PostgreSQL looks: of the newest timeline first.
        for timeline in (info.start_timeline..=info.timeline).rev() {
            match archive.find(&WalFile::Segment(Segment::holding(at, timeline, size))).await {
                Ok(None) => continue,
                Ok(Some(object)) if archive.is_empty(&object).await? => {
                    how = counts_as_missing(&format!("{} is empty", object.key));
                }
                Ok(object) => there = object,
                Err(error @ (Error::Untrusted { .. } | Error::Conflict { .. })) => {
                    how = counts_as_missing(&error.to_string());
                }
                Err(error) => return Err(error),
            }
            break;
        }
        let Some(object) = there else {
            return Ok(Err(format!("segment {} {how}", Segment::holding(at, info.timeline, size))));
        };
        found.push(object);
        at = Lsn(at.0 + size);
    }
    Ok(Ok(found))
}
