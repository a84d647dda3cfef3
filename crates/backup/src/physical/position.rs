//! Whether a server is the one that a repository has backups and WAL of (C43).
//!
//! A copy of a machine (a clone, a snapshot that was put back) has the system identifier and the timeline of its original. What it backs
//! up would be taken for the original's, and push that out. A server that takes writes never goes back, so one whose position lies behind
//! what a repository has of its own timeline is a copy, or was put back. One that has overtaken its original has other WAL than the archive:
//! in its own directory, as long as it keeps it, and in its backups ([`last_segment_of_another`]).

use crate::Error;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_postgres::Server;
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Repository, WalArchive};
use sqlx::Connection;

/// Refuses a primary that is behind what a repository has of its timeline.
///
/// # Errors
/// [`Error::Refused`]; what the server or the repository answered.
pub(super) async fn check(
    primary: &Server,
    repository: &Repository,
    (cluster, system_id): (&str, &str),
    segment_size: u64,
) -> Result<(), Error> {
    let (timeline, _) = position(primary).await?;
    let (backups, _) = repository.shown(Some(cluster)).await?;
    let own = backups.iter().filter(|info| info.system_id == system_id && info.timeline == timeline);
    let backup = own.max_by_key(|info| info.stop_lsn).map(|info| (info.stop_lsn, format!("backup {}", info.label)));
    let newest = WalArchive::new(repository, cluster, system_id).newest(timeline).await?;
    let segment = newest.as_ref().map(|(segment, _)| {
        let end = segment.next(segment_size).start(segment_size);
        (end, format!("WAL segment {segment}"))
    });
    let Some((end, what)) = backup.into_iter().chain(segment).max() else { return Ok(()) };
    // Asked after the repository was: what came into it meanwhile was written before.
    let (now_on, at) = position(primary).await?;
    let reason = match newest {
        _ if now_on != timeline => return Ok(()),
        _ if at < end => format!("it is at {at} of timeline {timeline}, and {what} there ends at {end}"),
        Some((segment, object)) if has_another(primary, &segment, &object.sha256, segment_size).await? => {
            format!("its own {segment} is another than the one in the WAL archive there")
        }
        _ => return Ok(()),
    };
    Err(Error::Refused(format!(
        "the server is not the one that {} has backups and WAL of: {reason}. It is a copy of that one's machine, or was put back to an \
         earlier state. A copy needs a cluster name of its own in the configuration. To go on as {cluster} it needs a timeline of its \
         own: create standby.signal in its data directory, restart it, and call pg_promote()",
        repository.name
    )))
}

/// Whether the server itself has something else under the name of a segment. It may have removed it, and not everybody may look: then
/// nothing is known.
async fn has_another(primary: &Server, segment: &Segment, sha256: &str, segment_size: u64) -> Result<bool, Error> {
    let mut connection = primary.connect().await?;
    let question = sqlx::query_scalar(include_str!("position/segment.sql")).bind(segment.to_string());
    let found: Result<Option<String>, _> =
        question.bind(i64::try_from(segment_size).unwrap_or(i64::MAX)).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    Ok(match found {
        Ok(own) => own.is_some_and(|own| own != sha256),
        Err(error) => {
            tracing::debug!(%segment, "not compared with the server's own: {error}");
            false
        }
    })
}

/// Timeline, and up to where WAL is safe on its disk.
async fn position(primary: &Server) -> Result<(u32, Lsn), Error> {
    let mut connection = primary.connect().await?;
    let row = sqlx::query_as(include_str!("position/position.sql")).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    let (timeline, lsn): (String, String) = row.map_err(Error::query("read the server's position"))?;
    let timeline = u32::from_str_radix(&timeline, 16).unwrap_or_default();
    let said = |_| Error::Interrupted(format!("the server says it is at \"{lsn}\""));
    Ok((timeline, lsn.parse().map_err(said)?))
}

/// C43: words about the archive having another segment under the name of a backup's last one. It may not be archived yet, and may have been
/// removed since: then nothing is known.
///
/// # Errors
/// What the repository answered.
pub(crate) async fn last_segment_of_another(
    repository: &Repository,
    info: &BackupInfo,
) -> Result<Option<String>, RepositoryError> {
    let Some((segment, _)) = info.last_segment() else { return Ok(None) };
    let archive = WalArchive::new(repository, &info.cluster, &info.system_id);
    let contents = archive.look(&WalFile::Segment(segment)).await?;
    Ok(contents.is_of_another(info).then(|| of_another(info)))
}

/// The words.
pub(crate) fn of_another(info: &BackupInfo) -> String {
    let segment = info.last_segment().map(|(segment, _)| segment.to_string()).unwrap_or_default();
    format!(
        "{segment} in the WAL archive is another than the one in {}: two servers with system identifier {} write here, the original and \
         a copy of its machine",
        info.label, info.system_id
    )
}
