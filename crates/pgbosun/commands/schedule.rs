//! `pgbosun schedule`: when each job will run.

use crate::{
    local::Context,
    output::{json, table, yellow},
};
use chrono::{Duration, Utc};
use pgbosun_daemon::upcoming;

/// Runs of one job that are listed one by one; a five-minute job has 2,016 a week.
const LISTED: usize = 3;

/// Prints the coming runs.
///
/// # Errors
/// Those of JSON.
pub fn run(context: &Context, days: u16) -> anyhow::Result<u8> {
    let now = Utc::now();
    let until = now + Duration::days(days.into());
    let all = upcoming(&context.config, now, until, usize::MAX);
    if context.json {
        json(&all)?;
        return Ok(0);
    }
    let mut shown = Vec::new();
    for (index, run) in all.iter().enumerate() {
        let earlier = all[..index].iter().filter(|other| other.job == run.job).count();
        let frequent = all.iter().filter(|other| other.job == run.job).count() > usize::from(days).max(1) * 4;
        if !frequent || earlier < LISTED || run.note.is_some() {
            shown.push(vec![run.local.clone(), run.job.clone(), run.kind.clone(), yellow(run.note.as_deref().unwrap_or(""))]);
        }
    }
    println!("{}", table(&["WHEN", "JOB", "KIND", ""], shown));
    let jobs = context.config.jobs.values().filter(|job| job.common.enabled);
    let mut notes = Vec::new();
    for job in jobs {
        let count = all.iter().filter(|run| run.job == job.name).count();
        match &job.common.schedule {
            None => notes.push(format!("{}: only on demand", job.name)),
            Some(schedule) if count > usize::from(days).max(1) * 4 => {
                notes.push(format!("{}: {schedule}, {count} runs in these {days} days, the first {LISTED} shown", job.name));
            }
            Some(schedule) if count == 0 => notes.push(format!("{}: {schedule}, not within these {days} days", job.name)),
            Some(_) => {}
        }
    }
    if !notes.is_empty() {
        println!("\n{}", notes.join("\n"));
    }
    Ok(0)
}
