//! The streaming replication protocol (PostgreSQL documentation, "Streaming Replication Protocol"), spoken by
//! ourselves: no version-matched client programs, exact control of errors and positions.

mod base_backup;
mod connection;
mod wal;

pub use base_backup::{BackupEnd, BackupEvent, BackupOptions, BackupStart, BaseBackup, Tablespace};
pub use connection::{Replication, SystemIdentity};
pub use wal::{WalChunk, WalStream};
