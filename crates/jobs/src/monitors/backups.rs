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
