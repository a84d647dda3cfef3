//! Two servers with one system identifier: the original, and a copy of its machine (C43).
//!
//! A copy of a machine (a clone, a snapshot that was put back) has the system identifier and the timeline of its original. What it backs
//! up would be taken for the original's, and push that out. A server that takes writes never goes back, so one whose position lies behind
//! what a repository has of its own timeline is a copy, or was put back. One that has overtaken its original has other WAL than the archive,
//! and so have its backups: a backup knows the SHA-256 of a segment ([`BackupInfo::last_segment`]).

use crate::{Error, inspect::Inspection};
use chrono::TimeDelta;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_postgres::{Server, replication::Replication};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Repository, WalArchive, WalObject};
use sha2::{Digest, Sha256};
use sqlx::Connection;
use std::time::Duration;

/// An archive into which nothing came for so long before a backup is not in use: it says nothing of that backup.
const QUIET: TimeDelta = TimeDelta::days(1);

/// How long a server may keep us waiting for the next piece of a segment.
const STALLED: Duration = Duration::from_secs(5);

/// Whether the archive whose newest segment this is was in use when a backup ended. Of a store that dates nothing nobody can say.
///
/// # Errors
/// What the repository answered.
pub(crate) async fn is_in_use(
    repository: &Repository,
    newest: &WalObject,
    info: &BackupInfo,
) -> Result<bool, RepositoryError> {
    let stored_at = repository.stored_at(&newest.key).await?;
    Ok(stored_at.is_some_and(|at| info.finished_at - at < QUIET))
}

/// Words about the archive having another segment under the name of a backup's last one. It may not be archived yet, and may have been
/// removed since: then nothing is known.
///
/// # Errors
/// What the repository answered.
pub async fn backup(repository: &Repository, info: &BackupInfo) -> Result<Option<String>, RepositoryError> {
    let Some((segment, _)) = info.last_segment() else { return Ok(None) };
    let archive = WalArchive::new(repository, &info.cluster, &info.system_id);
    let contents = archive.contents_of(&WalFile::Segment(segment)).await?;
    Ok(contents.is_of_another(info).then(|| words(info)))
}

/// What is wrong with a backup whose last segment is another than the archive's, and what to do.
pub(crate) fn words(info: &BackupInfo) -> String {
    let segment = info.last_segment().map(|(segment, _)| segment.to_string()).unwrap_or_default();
    format!(
        "{segment} in the WAL archive differs from the one in {}: two servers with system identifier {} write here, the \
         original and a copy of its machine. Give the copy a cluster name of its own; \"pgbosun backup remove\" removes the \
         backups it took",
        info.label, info.system_id
    )
}

/// Refuses a server that has other WAL than the archive or the newest backup of its timeline, and a primary that is behind them.
///
/// # Errors
/// [`RepositoryError::AnotherServer`]; what the server or the repository answered.
pub(crate) async fn check(
    server: &Server,
    repository: &Repository,
    (cluster, system_id): (&str, &str),
    before: &Inspection,
) -> Result<(), Error> {
    let (timeline, _) = position(server).await?;
    let archive = WalArchive::new(repository, cluster, system_id);
    let (backups, _) = repository.shown(Some(cluster)).await?;
    let own = backups.iter().filter(|info| info.system_id == system_id && info.timeline == timeline);
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|info| std::cmp::Reverse(info.stop_lsn));
    // After pg_resetwal the names of segments mean other positions than before.
    let size = before.wal_segment_size;
    let is_as_before = own.first().is_none_or(|info| info.wal_segment_size == size);
    let newest = if is_as_before { archive.newest(timeline).await? } else { None };
    let mut known = None;
    for info in own {
        if is_of_archive(repository, info, newest.as_ref()).await? {
            known = Some(info);
            break;
        }
    }
    let of_backup = known.map(|info| (info.stop_lsn, format!("backup {}", info.label)));
    let of_archive = newest.as_ref().map(|(segment, _)| (segment.next(size).start(size), format!("segment {segment}")));
    // Asked after the repository was: what came into it meanwhile was written before.
    let (now_on, at) = position(server).await?;
    if now_on != timeline {
        return Ok(());
    }
    let refused = |reason| Error::from(RepositoryError::another_server(repository, cluster, reason));
    match of_backup.into_iter().chain(of_archive).max() {
        // A standby may be behind.
        Some((end, what)) if at < end && !before.standby => {
            return Err(refused(format!("it is at {at} on timeline {timeline}, but {what} there ends at {end}")));
        }
        _ => {}
    }
    if let Some((segment, sha256)) = known.filter(|_| is_as_before).and_then(BackupInfo::last_segment)
        && own_segment(server, segment, size).await?.is_some_and(|own| own != sha256)
    {
        let label = known.map(|info| info.label.as_str()).unwrap_or_default();
        return Err(refused(format!("its own {segment} differs from the one in backup {label} there")));
    }
    match newest {
        Some((segment, _)) => check_segment(server, &archive, cluster, (segment, size)).await.map(drop),
        None => Ok(()),
    }
}

/// Refuses a server whose own segment is another than all under its name in an archive. Returns the SHA-256 of its own, where it has it.
///
/// # Errors
/// [`RepositoryError::AnotherServer`]; what the server or the repository answered.
pub(crate) async fn check_segment(
    server: &Server,
    archive: &WalArchive,
    cluster: &str,
    (segment, size): (Segment, u64),
) -> Result<Option<String>, Error> {
    let there = archive.contents_of(&WalFile::Segment(segment)).await?.believed;
    let Some(own) = own_segment(server, segment, size).await? else { return Ok(None) };
    if there.is_empty() || there.iter().any(|object| object.sha256 == own) {
        return Ok(Some(own));
    }
    let reason = format!("its own {segment} differs from the one in the WAL archive there");
    Err(RepositoryError::another_server(archive.repository(), cluster, reason).into())
}

/// Whether nothing in the archive says that a backup is another server's: what it has under the name of the backup's last segment, or
/// that it is in use and has not come so far.
async fn is_of_archive(
    repository: &Repository,
    info: &BackupInfo,
    newest: Option<&(Segment, WalObject)>,
) -> Result<bool, RepositoryError> {
    Ok(match (info.last_segment(), newest) {
        (Some((last, _)), Some((newest, object))) if *newest < last => !is_in_use(repository, object, info).await?,
        _ => backup(repository, info).await?.is_none(),
    })
}

/// The SHA-256 of a segment as the server itself has it. It may have removed it, and may not let this role in to replicate: then nothing
/// is known.
async fn own_segment(server: &Server, segment: Segment, segment_size: u64) -> Result<Option<String>, Error> {
    let streamed = async {
        let connection = Replication::connect(&server.conninfo, server.connect_timeout).await?;
        let mut stream = connection.stream_wal(None, segment.start(segment_size), segment.timeline).await?;
        let (mut hash, mut left) = (Sha256::new(), usize::try_from(segment_size).unwrap_or_default());
        // A standby may have no more than its beginning, and comes to the rest who knows when.
        while let Ok(chunk) = tokio::time::timeout(STALLED, stream.next()).await {
            let Some(chunk) = chunk? else { break };
            let piece = &chunk.data[..chunk.data.len().min(left)];
            hash.update(piece);
            left -= piece.len();
            if left == 0 {
                // What else is under way is of no use, and an end without a word would be one in the server's log.
                let _ = tokio::time::timeout(STALLED, stream.end()).await;
                return Ok(Some(hex::encode(hash.finalize())));
            }
        }
        Ok(None)
    };
    match streamed.await {
        Err(error) if pgbosun_postgres::Error::is_answer(&error) => {
            tracing::debug!(%segment, "not compared with the server's own: {error}");
            Ok(None)
        }
        streamed => Ok(streamed?),
    }
}

/// Timeline, and up to where WAL is safe on its disk.
async fn position(server: &Server) -> Result<(u32, Lsn), Error> {
    let mut connection = server.connect().await?;
    let row = sqlx::query_as(include_str!("another/position.sql")).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    let (timeline, lsn): (i32, String) = row.map_err(Error::query("read the server's position"))?;
    match (u32::try_from(timeline), lsn.parse()) {
        (Ok(timeline), Ok(lsn)) => Ok((timeline, lsn)),
        _ => Err(Error::Interrupted(format!("the server reports that it is at \"{lsn}\" of timeline {timeline}"))),
    }
}
