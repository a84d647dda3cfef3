//! Schedules: when a job is due. Pure functions, no clock of their own.
//!
//! Invariants: occurrences are strictly increasing instants in UTC; the same expression and zone give the
//! same instants on every machine; nothing here depends on when it is asked.

mod blackout;
mod cron;
mod plan;
mod zoned;

pub use blackout::Blackout;
pub use cron::{Cron, CronError};
pub use plan::{CatchUp, Due, Lateness, Plan, Rules, plan};
pub use zoned::{Shift, occurrences, shifts};

use std::{fmt, str::FromStr};

/// When a job runs: a cron expression, or once when the daemon starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the times of a cron expression.
    Cron(Cron),
    /// `@reboot`: once at each start of the daemon.
    AtStart,
}

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        match text.trim() {
            "@reboot" => Ok(Self::AtStart),
            other => other.parse().map(Self::Cron),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::AtStart => f.write_str("@reboot"),
        }
    }
}
