//! `pgbosun schedule`: when each job will run.

use crate::{
    local::Context,
    output::{json, table, yellow},
};
use chrono::Duration;
use pgbosun_daemon::upcoming;
use std::collections::HashMap;

/// Runs of one job that are listed one by one; a five-minute job has 2,016 a week.
const LISTED: usize = 3;

/// Prints the coming runs.
///
/// # Errors
/// Those of JSON.
pub fn run(context: &Context, days: u16) -> anyhow::Result<u8> {
    let now = pgbosun_core::clock::now();
    let until = now + Duration::days(days.into());
    let all = upcoming(&context.config, now, until, usize::MAX);
    if context.json {
        json(&all)?;
        return Ok(0);
    }
    let often = usize::from(days.max(1)) * 4;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for run in &all {
        *counts.entry(&run.job).or_default() += 1;
    }
    let mut seen: HashMap<&str, (usize, Option<&str>)> = HashMap::new();
    let mut shown = Vec::new();
    for run in &all {
        let (earlier, last_note) = seen.entry(&run.job).or_default();
        let note = run.note.as_deref();
        // Of a job that runs often: the first ones, and where something changes.
        if counts[run.job.as_str()] <= often || *earlier < LISTED || note != *last_note {
            shown.push(vec![run.local.clone(), run.job.clone(), run.kind.clone(), yellow(note.unwrap_or(""))]);
        }
        (*earlier, *last_note) = (*earlier + 1, note);
    }
    say!("{}", table(&["WHEN", "JOB", "KIND", ""], shown));
    let mut notes = Vec::new();
    for job in context.config.jobs.values().filter(|job| job.common.enabled) {
        let count = counts.get(job.name.as_str()).copied().unwrap_or(0);
        let span = if days == 1 { "the next day".to_owned() } else { format!("the next {days} days") };
        match &job.common.schedule {
            None => notes.push(format!("{}: only on demand", job.name)),
            Some(schedule) if count > often => {
                notes.push(format!("{}: {schedule}, {count} runs in {span}, the first {LISTED} shown", job.name));
            }
            Some(schedule) if count == 0 => notes.push(format!("{}: {schedule}, not within {span}", job.name)),
            Some(_) => {}
        }
    }
    if !notes.is_empty() {
        say!("\n{}", notes.join("\n"));
    }
    Ok(0)
}
