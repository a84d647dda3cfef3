//! Reports: made of samples and history, and of what the server says of itself at that moment.
//!
//! Invariants: a report never fails for what is missing, it says so in a sentence; a figure stands beside what it was in the
//! window before and a week ago, where that is known.

mod activity;
mod drill;
mod health;
mod overview;
mod performance;
mod window;

pub use drill::DrillReport;
pub use health::{Health, HealthReport, Scope};
pub use performance::{About, PerformanceReport, performance};

use crate::JobContext;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::GroupName,
    outcome::{Issue, Outcome},
    report::Report,
};
use std::time::Duration;

/// A window of time: from, and to.
pub type Span = (DateTime<Utc>, DateTime<Utc>);

/// What a job that made a report gives back.
fn issued(context: &JobContext, report: Report, groups: &[GroupName], keep: Duration) -> Outcome {
    let summary = report.verdict.first().map_or_else(|| "nothing to report".to_owned(), |line| line.text.clone());
    let issue = Issue::new(report, groups, keep);
    Outcome { summary, report: (!context.dry_run).then_some(issue), ..Outcome::default() }
}
