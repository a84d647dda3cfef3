//! Maintenance: tables and indexes kept in shape, by need, within a budget of time.
//!
//! Invariants: one statement at a time, on one connection ([`MaintenanceSession`]); nothing begins that is not expected to end within the
//! budget, and what is at work at its end is cancelled on the server ([`MaintenanceRun`]); no statement waits for a lock longer than its
//! `lock_timeout`; every object that was worked on or left out is a row of history with its reason. A server that is a standby
//! has nothing to do.

mod advice;
mod analyze;
mod catalog;
mod index;
mod integrity;
mod reindex;
mod run;
mod session;
mod table;
mod vacuum;

pub use advice::Advice;
pub use analyze::Analyze;
pub use catalog::Catalog;
pub use integrity::Integrity;
pub use reindex::Reindex;
pub use vacuum::Vacuum;
