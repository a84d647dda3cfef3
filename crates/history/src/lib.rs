//! What happened: the journal (SQLite), the schema `dba_ops` (PostgreSQL), delivery from one to the other.
//!
//! Invariants: everything is written to the journal first, in one transaction per fact; a run reaches a final
//! state once; `dba_ops` is a projection that can be filled again from the journal; the journal is the only
//! store the program reads, operators excepted.

/// The runs of a family, in SQL of either store, as `pgbosun_core::family::Family::of` tells them.
macro_rules! of_family {
    (monitor) => {
        "kind like 'monitor.%'"
    };
    (backup) => {
        "kind like 'backup.%'"
    };
}

mod alerts;
mod audit;
mod backups;
mod deliver;
mod dispatch;
mod error;
mod jobs;
mod journal;
mod lock;
mod maintenance;
mod operators;
mod outbox;
mod purge;
mod records;
mod renew;
mod reports;
mod runs;
mod samples;
mod schema;
mod silences;
mod writer;

pub use alerts::{AlertChange, Judge};
pub use audit::{Actor, Process, started_by, was_started_by};
pub use backups::{BackupRow, RestoreTestRow};
pub use deliver::{Delivered, Delivery};
pub use dispatch::{AlertSnapshot, Dispatch, DispatchRule};
pub use error::Error;
pub use jobs::{JobEntry, JobRow, Pause};
pub use journal::Journal;
pub use lock::StateLock;
pub use maintenance::{MaintenanceRow, RecommendationRow};
pub use operators::{Operator, OperatorGroup, OperatorNews, Operators, operators_beside};
pub use outbox::{Backlog, NewNotification, Notification};
pub use purge::Old;
pub use renew::{known_instance, refill, set_aside};
pub use reports::{AlertRow, JobTally};
pub use runs::{RunEnd, RunFilter};
pub use schema::{SchemaState, migrate, rebuild};
