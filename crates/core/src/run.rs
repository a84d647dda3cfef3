//! Runs: one execution of a job, or the record that there was none.
//!
//! Invariant: a run ends in exactly one final state, and never leaves it.

use crate::family::Family;
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
        /// Was cancelled by a person; a check also by the daemon's stop.
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

    /// The family of its kind.
    pub fn family(&self) -> Family {
        Family::of(&self.kind)
    }

    /// Whether it is a check of a monitor.
    pub fn is_monitor(&self) -> bool {
        self.family() == Family::Monitor
    }
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
