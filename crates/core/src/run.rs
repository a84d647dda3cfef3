//! Runs: one execution of a job, or the record that there was none.
//!
//! Invariant: a run ends in exactly one final state, and never leaves it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

crate::words! {
    /// Where a run stands.
    pub enum RunState {
        /// Waits for a free slot, or for its jitter.
        Queued = "queued",
        /// Is at work.
        Running = "running",
        /// Did what it should.
        Succeeded = "succeeded",
        /// Failed after its last retry.
        Failed = "failed",
        /// Exceeded its timeout.
        TimedOut = "timed-out",
        /// Was cancelled by a person; a look also by the daemon's stop.
        Cancelled = "cancelled",
        /// Did not start, for the recorded reason.
        Skipped = "skipped",
        /// Its time passed while nobody could start it.
        Missed = "missed",
        /// The daemon stopped or died while it was queued or running.
        Interrupted = "interrupted",
    }
}

impl RunState {
    /// True for a state that a run never leaves.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// True where the job was tried and did not do what it should.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Interrupted)
    }
}

crate::words! {
    /// Why a run started.
    pub enum Trigger {
        /// Its schedule.
        Schedule = "schedule",
        /// Its schedule, after downtime.
        CatchUp = "catch-up",
        /// A person.
        Manual = "manual",
        /// The start of the daemon, also where it is for a run that the end of the one before ended.
        Start = "start",
    }
}

impl Run {
    /// Whether it is another try for the time of a run that was ended.
    pub fn is_again(&self, ended: &Self) -> bool {
        let same = self.job == ended.job && self.scheduled_for == ended.scheduled_for;
        same && ended.state == RunState::Interrupted && self.id > ended.id
    }

    /// Whether it only looked.
    pub fn is_look(&self) -> bool {
        is_monitor(&self.kind)
    }
}

/// Whether jobs of a kind only look.
pub fn is_monitor(kind: &str) -> bool {
    kind.starts_with("monitor.")
}

/// Whether jobs of a kind are there to find something out, and what they found is what they came to: a backup that was taken is one, also
/// where it found another damaged.
pub fn is_check(kind: &str) -> bool {
    is_monitor(kind) || ["backup.verify", "restore-test", "maintenance.integrity"].contains(&kind)
}

/// Whether jobs of a kind take, keep or check backups.
pub fn is_backup(kind: &str) -> bool {
    kind.starts_with("backup.")
}

/// One row of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Time-ordered identity.
    pub id: Uuid,
    /// Name of the job.
    pub job: String,
    /// Kind of the job.
    pub kind: String,
    /// Cluster it works on, where it works on one.
    pub cluster: Option<String>,
    /// Why it started.
    pub trigger: Trigger,
    /// Where it stands.
    pub state: RunState,
    /// The time it was due.
    pub scheduled_for: DateTime<Utc>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How often it was tried.
    pub attempts: u32,
    /// One line for people: what it did, why it was skipped, or how it failed.
    pub summary: String,
    /// The whole error with its causes, where there is one.
    pub error: Option<String>,
}
