//! Where backups live: storage backends, layout, catalogue, the write and read pipelines, leases.
//!
//! Invariants: an object exists whole or not at all; a backup exists once its `backup.json` does, which is written
//! last and carries its own checksum; every object's SHA-256 as stored is in there. Knows nothing of servers.

mod broken;
mod cache;
mod catalogue;
mod copy;
mod decode;
mod encode;
mod encryption;
mod error;
mod fan;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod known;
mod lease;
mod listing;
mod order;
mod read;
mod repository;
mod sealed;
mod signature;
pub mod storage;
mod tar_header;
mod tar_stream;
mod volume;
mod wal;

pub use catalogue::{BackupInfo, FORMAT, LastSegment, Object, ObjectKind, TablespaceInfo};
pub use copy::copy_object;
pub use decode::decompress;
pub use encode::{Encoding, Frame, Frames};
pub use encryption::{Identities, Recipients};
pub use error::{Error, KeyError, may_pass};
pub use lease::{Active, HEARTBEAT, Lease, process_id};
pub use order::{CLOCK_TOLERANCE, sort_backups};
pub use read::{check_stored, is_encrypted, read_object, read_volume};
pub use repository::{BackupRef, Expiry, Keep, Notes, RECOVERY_HOLD, Reader, Reading, Repository, write_object};
pub use signature::{SigningKey, TrustedKeys};
pub use storage::{ObjectWriter, Storage, local_repository, stores};
pub use tar_header::tar_header;
pub use volume::{Destinations, PlainWriter, TarVolumes, VolumeWriter, Written, volume_of};
pub use wal::{EncodedWal, WalArchive, WalContents, WalEncoder, WalObject};

/// The options of a repository of which nothing is said.
#[cfg(test)]
pub(crate) fn test_options() -> pgbosun_core::config::RepositoryOptions {
    local_repository("/".as_ref()).unwrap().common
}
