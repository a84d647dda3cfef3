//! Standbys and slots, from both ends.

mod lag;
mod slots;
mod standby;

pub use lag::ReplicationLag;
pub use slots::Slots;
pub use standby::Standby;
