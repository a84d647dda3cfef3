//! What will run when, for people.

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    config::Config,
    schedule::{Schedule, occurrences, shifts},
};
use serde::{Deserialize, Serialize};

/// One coming run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Upcoming {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// The same on the wall clock of its zone.
    pub local: String,
    /// The job.
    pub job: String,
    /// Its kind.
    pub kind: String,
    /// A change of the clocks near it, or a blackout window it falls into.
    pub note: Option<String>,
}

/// The coming runs of all jobs in `(from, until]`, in order, at most `limit` a job.
pub fn upcoming(config: &Config, from: DateTime<Utc>, until: DateTime<Utc>, limit: usize) -> Vec<Upcoming> {
    let mut all = Vec::new();
    for job in config.jobs.values().filter(|job| job.common.enabled) {
        let Some(Schedule::Cron(cron)) = &job.common.schedule else { continue };
        let zone = config.zone_of(job);
        for at in occurrences(cron, zone, from).take_while(|at| *at <= until).take(limit) {
            let local = at.with_timezone(&zone);
            let note = match config.blackout_of(job, at) {
                Some(window) => Some(format!("skipped: blackout window {window}")),
                None => shift_note(zone, at),
            };
            all.push(Upcoming {
                at,
                local: local.format("%a %Y-%m-%d %H:%M:%S %Z").to_string(),
                job: job.name.clone(),
                kind: job.common.kind.clone(),
                note,
            });
        }
    }
    all.sort_by(|a, b| (a.at, &a.job).cmp(&(b.at, &b.job)));
    all
}

/// Marks the first hours after a change of the clocks, and the hour before one.
fn shift_note(zone: Tz, at: DateTime<Utc>) -> Option<String> {
    let shift = shifts(zone, at - Duration::hours(3), at + Duration::hours(1)).into_iter().next()?;
    let (way, minutes) = if shift.by > Duration::zero() { ("forward", shift.by) } else { ("back", -shift.by) };
    let change = shift.at.with_timezone(&zone).format("%H:%M");
    Some(format!("clocks go {way} by {} min, to {change}", minutes.num_minutes()))
}
