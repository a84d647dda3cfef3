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

use crate::JobContext;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A token for bulk work that is cancelled with the run, and also when the run is given up.
fn bulk_token(context: &JobContext) -> (CancellationToken, DropGuard) {
    let token = context.cancel.child_token();
    (token.clone(), token.drop_guard())
}
