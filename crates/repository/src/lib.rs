//! Where backups live: storage backends, layout, catalogue, the write and read pipelines, leases.
//!
//! Invariants: an object exists whole or not at all; a backup exists once its `backup.json` does, which is written
//! last and carries its own checksum; every object's SHA-256 as stored is in there. Knows nothing of servers.

mod catalogue;
mod error;
mod lease;
mod read;
mod repository;
pub mod storage;
mod tar_stream;
mod volume;

pub use catalogue::{BackupInfo, FORMAT, Object, ObjectKind, TablespaceInfo};
pub use error::Error;
pub use lease::{Active, Lease, process_id};
pub use read::{read_object, read_volume};
pub use repository::{BackupRef, Repository};
pub use storage::{ObjectWriter, Storage};
pub use volume::{PlainWriter, Stored, TarVolumes, VolumeWriter, write_object};
