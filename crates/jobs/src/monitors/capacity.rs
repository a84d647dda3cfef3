//! How much is left: connections, space, WAL.

mod connections;
mod database_size;
mod temp_bytes;
mod wal_size;

pub use connections::Connections;
pub use database_size::DatabaseSize;
pub use temp_bytes::TempBytes;
pub use wal_size::WalSize;
