//! `pgbosun schedule`: when each job will run.

use crate::{
    cli::ScheduleArguments,
    client::query,
    local::Context,
    output::{Column, aside, bold, dim, json, table, text, whole, yellow},
};
use chrono::Duration;
use pgbosun_core::{family::Family, human};
use pgbosun_daemon::{Upcoming, api::JobInfo, upcoming};
use std::collections::{BTreeMap, HashMap};

/// Runs of one job that are listed one by one; a five-minute job has 2,016 a week.
const LISTED: usize = 3;

const COLUMNS: [Column; 4] = [whole("WHEN"), whole("JOB"), aside("KIND"), text("")];

/// A job that is switched on.
struct Planned {
    name: String,
    kind: String,
    schedule: Option<String>,
}

/// Prints the coming runs.
///
/// # Errors
/// Where there is no such job, or the daemon is needed and does not answer.
pub async fn run(context: &Context, arguments: ScheduleArguments) -> anyhow::Result<u8> {
    let ScheduleArguments { days, all, job } = arguments;
    let (mut jobs, mut runs) = planned(context, days).await?;
    if let Some(name) = &job {
        if !jobs.iter().any(|job| job.name == *name) {
            super::job::configured(context, name)?;
        }
        jobs.retain(|job| job.name == *name);
        runs.retain(|run| run.job == *name);
    }
    if context.json {
        json(&runs)?;
        return Ok(0);
    }
    let folds = !all && job.is_none();
    let is_monitor = |kind: &str| Family::of(kind) == Family::Monitor;
    let (checks, runs): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| folds && is_monitor(&run.kind));
    let (monitors, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| folds && is_monitor(&job.kind));
    show(&jobs, &runs, days);
    show_folded(&monitors, &checks);
    Ok(0)
}

/// The jobs that are switched on, and their coming runs.
async fn planned(context: &Context, days: u16) -> anyhow::Result<(Vec<Planned>, Vec<Upcoming>)> {
    if context.is_guest {
        let daemon = context.need_daemon("the schedule").await?;
        let jobs: Vec<JobInfo> = daemon.get("/jobs").await?;
        let runs = daemon.get(&query("/schedule", &[("days", Some(days.to_string()))])).await?;
        let jobs = jobs.into_iter().filter(|job| job.enabled);
        return Ok((jobs.map(|JobInfo { name, kind, schedule, .. }| Planned { name, kind, schedule }).collect(), runs));
    }
    let now = pgbosun_core::clock::now();
    let runs = upcoming(&context.config, now, now + Duration::days(days.into()), usize::MAX);
    let jobs = context.config.jobs.values().filter(|job| job.common.enabled);
    let jobs = jobs.map(|job| Planned {
        name: job.name.clone(),
        kind: job.common.kind.clone(),
        schedule: job.common.schedule.as_ref().map(ToString::to_string),
    });
    Ok((jobs.collect(), runs))
}

fn show(jobs: &[Planned], runs: &[Upcoming], days: u16) {
    let often = usize::from(days.max(1)) * 4;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for run in runs {
        *counts.entry(&run.job).or_default() += 1;
    }
    let mut seen: HashMap<&str, (usize, Option<&str>)> = HashMap::new();
    let mut shown = Vec::new();
    for run in runs {
        let (earlier, last_note) = seen.entry(&run.job).or_default();
        let note = run.note.as_deref();
        // Of a job that runs often: the first ones, and where something changes.
        if counts[run.job.as_str()] <= often || *earlier < LISTED || note != *last_note {
            shown.push(vec![run.local.clone(), run.job.clone(), run.kind.clone(), yellow(note.unwrap_or(""))]);
        }
        (*earlier, *last_note) = (*earlier + 1, note);
    }
    say!("{}", table(&COLUMNS, shown));
    let span = if days == 1 { "the next day".to_owned() } else { format!("the next {days} days") };
    let notes: Vec<_> = jobs
        .iter()
        .filter_map(|job| {
            let count = counts.get(job.name.as_str()).copied().unwrap_or(0);
            match &job.schedule {
                None => Some(format!("{}: only on demand", job.name)),
                Some(schedule) if count > often => {
                    Some(format!("{}: {schedule}, {count} runs in {span}, the first {LISTED} shown", job.name))
                }
                Some(schedule) if count == 0 => Some(format!("{}: {schedule}, no run in {span}", job.name)),
                Some(_) => None,
            }
        })
        .collect();
    if !notes.is_empty() {
        say!("\n{}", notes.join("\n"));
    }
}

/// Monitors, in one line a schedule.
fn show_folded(monitors: &[Planned], checks: &[Upcoming]) {
    let mut folded: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for monitor in monitors {
        folded.entry(monitor.schedule.as_deref().unwrap_or("only on demand")).or_default().push(&monitor.name);
    }
    if folded.is_empty() {
        return;
    }
    say!("\n{} {}", bold("MONITORS"), dim("(--all shows each)"));
    for (schedule, names) in folded {
        let next = checks.iter().find(|next| names.contains(&next.job.as_str()));
        let next = next.map_or_else(String::new, |next| format!(", next {}", next.local));
        match names.as_slice() {
            [only] => say!("{schedule}: {only}{next}"),
            many => say!("{schedule}: {}{next}", human::count(many.len(), "monitor")),
        }
    }
}
