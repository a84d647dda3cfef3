//! Whether there are backups, whole, enough, in every place, and WAL to go with them.

mod backup_age;
mod backup_copies;
mod backup_count;
mod backup_size;
mod backup_success;
mod restore_tests;
mod wal_archive;
mod wal_gaps;

pub use backup_age::BackupAge;
pub use backup_copies::BackupCopies;
pub use backup_count::BackupCount;
pub use backup_size::BackupSize;
pub use backup_success::BackupSuccess;
pub use restore_tests::RestoreTests;
pub use wal_archive::WalArchive;
pub use wal_gaps::WalGaps;

use super::MonitorSession;
use crate::JobError;
use pgbosun_backup::Catalogue;
use pgbosun_core::{
    config::RepositoryName,
    detail::Detail,
    finding::{Finding, Severity},
    human,
};
use pgbosun_repository::Repository;

/// What each repository has, or why that is unknown.
type InEach<T> = Vec<(String, Result<T, String>)>;

/// Looks at the cluster's backups in each repository: one that is away says nothing about the others.
///
/// # Errors
/// Where none can be looked into.
async fn in_each(
    session: &MonitorSession<'_>,
    names: &[RepositoryName],
) -> Result<Vec<(Repository, Result<Catalogue, String>)>, JobError> {
    let (cluster, _) = session.context.cluster()?;
    let (mut all, mut away) = (Vec::new(), None);
    for repository in crate::backups::repositories(session.context, names)? {
        let found = match Catalogue::shown(&repository, Some(cluster)).await {
            Ok(catalogue) => Ok(catalogue),
            Err(error) => {
                let reason = human::chain(&error);
                away.get_or_insert(error);
                Err(reason)
            }
        };
        all.push((repository, found));
    }
    match away {
        Some(error) if all.iter().all(|(_, found)| found.is_err()) => Err(error.into()),
        _ => Ok(all),
    }
}

/// What is of interest of the backups in each repository.
fn each<T>(all: Vec<(Repository, Result<Catalogue, String>)>, of: impl Fn(Catalogue) -> T) -> InEach<T> {
    all.into_iter().map(|(repository, found)| (repository.name, found.map(&of))).collect()
}

/// A summary that says which repository, where there are several: of many mails people read the subject alone.
fn which(several: bool, repository: &str, summary: String) -> String {
    if several { format!("{repository}: {summary}") } else { summary }
}

/// That a repository could not be looked into.
fn not_seen(repository: &str, what: &str, reason: &str) -> Finding {
    Finding::new(Severity::Unknown, repository, format!("{what} in repository {repository} cannot be determined"))
        .meaning("Problems there go unnoticed.")
        .advice("\"pgbosun check\" says which repositories are unavailable.")
        .detail(Detail::new().fact("repository", repository).fact("error", reason))
}
