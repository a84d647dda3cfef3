//! Taking, verifying and restoring backups.
//!
//! Invariants: returns results and knows nothing of findings, alerts or history; bulk data passes once, in bounded
//! memory; what fails leaves nothing that is listed. The rules C1 to C26 are named where the code keeps them.

mod error;
mod inspect;
mod manifest;
mod physical;
mod progress;
mod restore;
mod restore_test;
mod retention;
mod scratch;
mod verify;
mod wal;

pub use error::Error;
pub use physical::{Physical, PhysicalBackup};
pub use progress::{Progress, Snapshot};
pub use restore::{Restore, Restored};
pub use restore_test::{RestoreTest, RestoreTestResult};
pub use retention::{Retention, expired};
pub use scratch::find_programs;
pub use verify::{Check, Verified, verify};
