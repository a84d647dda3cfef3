//! Taking, verifying and restoring backups.
//!
//! Invariants: returns results and knows nothing of findings, alerts or history; bulk data passes once, in bounded
//! memory; what fails leaves nothing that is listed. The rules of docs/correctness.md are named where the code keeps them.

pub mod another;
mod chain;
mod config_files;
mod copy;
mod error;
mod expire;
pub mod fence;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod inspect;
mod manifest;
mod member;
mod pace;
mod part;
mod physical;
mod progress;
mod reading;
mod remove;
mod restore;
mod restore_test;
mod retention;
mod scratch;
mod settings;
mod sign;
mod verify;
pub mod wal;

pub use chain::{Catalogue, Chain, Entry, Health, newest_good, newest_of};
pub use copy::{Copied, copy_backup, copy_wal};
pub use error::Error;
pub use expire::{Expire, Expired};
pub use part::{Destination, Dump, DumpWhat, Load, LoadedAs, Part, ScratchCopy, Taken};
pub use physical::{
    Estimate, Incremental, NoServer, Physical, PhysicalBackup, Primary, Role, Source, Unfit, WalSource, WhyFull,
    member, primaries, server_time,
};
pub use progress::{Progress, Snapshot, Words};
pub use remove::{check_removal, remove_backup};
pub use restore::{
    Existing, Plan, Reachable, Recovery, Request, Restore, Restored, Target, TargetAction, forget_recovery, is_copy,
    plan, plan_beyond, primary_of, reachable, recovery_end_command,
};
pub use restore_test::{Query, RestoreTest, RestoreTestResult};
pub use retention::{Candidate, Needed, Rules, decide, needed};
pub use scratch::{AHEAD_VARIABLE, find_programs};
pub use sign::{SignedWal, sign_wal, unreadable_backup, unsigned_backups};
pub use verify::{Check, Verified, verify, verify_archive};
