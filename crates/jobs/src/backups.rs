//! Backup jobs: thin, they call `pgbosun-backup` and put its results into words.

mod archiving;
pub mod expiry;
mod heartbeat;
mod physical;
mod reach;
mod replicate;
mod restore_test;
mod table_name;
mod verify;
mod wal_cleanup;

pub use archiving::{needs_replication, ought_to_archive};
pub use heartbeat::Heartbeat;
pub use physical::BackupPhysical;
pub use reach::reach;
pub use replicate::Replicate;
pub use restore_test::RestoreTestJob;
pub(crate) use verify::untrusted;
pub use verify::{VerifyJob, note_verification};
pub use wal_cleanup::WalCleanup;

use crate::{JobContext, JobError};
use pgbosun_core::config::RepositoryName;
use pgbosun_repository::Repository;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A token for bulk work that is cancelled with the run, and also when the run is given up.
fn bulk_token(context: &JobContext) -> (CancellationToken, DropGuard) {
    let token = context.cancel.child_token();
    (token.clone(), token.drop_guard())
}

/// The named repositories; where none is named those that the backups of the run's cluster go to, and those they are copied to, or all
/// where no job of it takes any.
///
/// # Errors
/// Where one cannot be used as configured.
pub(crate) fn repositories(context: &JobContext, names: &[RepositoryName]) -> Result<Vec<Repository>, JobError> {
    if !names.is_empty() {
        return context.repositories(names);
    }
    let (cluster, _) = context.cluster()?;
    let taken = context.config.options_of::<BackupPhysical>(cluster).flat_map(|job| job.repositories);
    let copied = context.config.options_of::<Replicate>(cluster).map(|job| job.to);
    context.repositories(&taken.chain(copied).collect::<Vec<_>>())
}
