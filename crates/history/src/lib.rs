//! What happened: the journal (SQLite), the schema `dba_ops` (PostgreSQL), delivery from one to the other.
//!
//! Invariants: everything is written to the journal first, in one transaction per fact; a run reaches a final
//! state once; `dba_ops` is a projection that can be filled again from the journal; the journal is the only
//! store the program reads, operators excepted.

mod alerts;
mod backups;
mod deliver;
mod error;
mod jobs;
mod journal;
mod lock;
mod operators;
mod outbox;
mod purge;
mod runs;
mod writer;

pub use backups::{BackupRow, RestoreTestRow};
pub use deliver::{Delivered, Delivery, migrate};
pub use error::Error;
pub use jobs::{JobEntry, JobRow, Pause};
pub use journal::Journal;
pub use lock::StateLock;
pub use operators::{Operator, OperatorGroup, Operators};
pub use outbox::{NewNotification, Notification};
pub use purge::Old;
pub use runs::{RunEnd, RunFilter};
