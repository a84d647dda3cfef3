//! How much is left: connections, space, WAL.

mod connections;
mod database_size;
mod tablespaces;
mod temp_bytes;
mod wal_size;

pub use connections::Connections;
pub use database_size::DatabaseSize;
pub use tablespaces::Tablespaces;
pub use temp_bytes::TempBytes;
pub use wal_size::WalSize;
