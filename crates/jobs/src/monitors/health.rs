//! What wears a cluster out slowly.

mod autovacuum;
mod bloat;
mod cache_hit;
mod checkpoints;
mod checksums;
mod indexes;
mod sequences;
mod statements;
mod statistics;
mod unlogged;
mod vacuum;

pub use autovacuum::Autovacuum;
pub use bloat::Bloat;
pub use cache_hit::CacheHit;
pub use checkpoints::Checkpoints;
pub use checksums::Checksums;
pub use indexes::InvalidIndexes;
pub use sequences::Sequences;
pub use statements::Statements;
pub use statistics::Statistics;
pub use unlogged::Unlogged;
pub use vacuum::Vacuum;
