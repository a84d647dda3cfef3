//! The user's own monitors.

mod command;
mod sql;

pub use command::CommandMonitor;
pub use sql::SqlMonitor;
