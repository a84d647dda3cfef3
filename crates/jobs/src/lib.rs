//! Everything that runs on a schedule.
//!
//! Invariants: a job returns what it found and never writes history, sends nothing, and stops when it is cancelled;
//! every kind is one file with its own options, and the registry is the only list of them.

mod backups;
mod baseline;
mod connection;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod job;
mod logs;
mod maintenance;
mod monitors;
pub mod paths;
pub mod place;
mod programs;
mod registry;
mod reports;
mod samples;

pub use backups::{expiry, needs_replication, note_verification, ought_to_archive, reach};
pub use baseline::Baseline;
pub use connection::ClusterConnection;
pub use error::JobError;
pub use job::{Job, JobContext, Ledger};
pub use monitors::log_advice;
pub use registry::{build, kinds, monitors as monitors_page};
pub use reports::{About, DrillReport, Health, HealthReport, PerformanceReport, Scope, Span, performance};
