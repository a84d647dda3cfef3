//! Rows of the journal as the scheduler writes them: jobs as configured, runs as they are claimed or missed.

use crate::{engine::Engine, error::Error};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::{Config, Job},
    human,
    run::{Run, RunState, Trigger},
    schedule::{Cron, Schedule},
};
use pgbosun_history::JobEntry;
use std::time::Duration;
use uuid::Uuid;

/// The jobs that run by the clock.
pub(crate) fn scheduled(config: &Config) -> impl Iterator<Item = (&Job, &Cron)> {
    config.jobs.values().filter(|job| job.common.enabled).filter_map(|job| match &job.common.schedule {
        Some(Schedule::Cron(cron)) => Some((job, cron)),
        _ => None,
    })
}

/// The refusal of a job that is not configured, with the nearest one.
pub(crate) fn unknown_job(config: &Config, name: &str) -> Error {
    let near = pgbosun_core::config::nearest(name, config.jobs.keys().map(String::as_str));
    Error::Refused(match near {
        Some(near) => format!("no job {name}; did you mean {near}?"),
        None => format!("no job is named {name}; \"pgbosun job list\" shows them"),
    })
}

/// A new run of a job, queued.
pub fn new_run(config: &Config, job: &Job, trigger: Trigger, scheduled_for: DateTime<Utc>) -> Run {
    Run {
        id: Uuid::now_v7(),
        job: job.name.clone(),
        kind: job.common.kind.clone(),
        cluster: config.cluster_of(job).map(|(name, _)| name.to_owned()),
        trigger,
        state: RunState::Queued,
        scheduled_for,
        started_at: None,
        finished_at: None,
        attempts: 0,
        summary: String::new(),
        error: None,
    }
}

pub(crate) fn missed(config: &Config, job: &Job, time: DateTime<Utc>, now: DateTime<Utc>, more: u64) -> Run {
    let late = human::span(now - time);
    let mut summary = format!("no daemon was running to start it; noticed {late} later");
    if more > 0 {
        summary.push_str(&format!("; {} missed too", human::count(more, "earlier time")));
    }
    Run { state: RunState::Missed, finished_at: Some(now), summary, ..new_run(config, job, Trigger::Schedule, time) }
}

/// The same amount for the same job and installation, spread over the configured span (FNV-1a).
pub(crate) fn jitter(engine: &Engine, job: &Job) -> Duration {
    let span = job.common.start_jitter;
    if span.is_zero() {
        return span;
    }
    let bytes = engine.journal.instance().into_bytes().into_iter().chain(job.name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    span.mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

pub(crate) fn entry_of(config: &Config, job: &Job) -> JobEntry {
    JobEntry {
        name: job.name.clone(),
        kind: job.common.kind.clone(),
        cluster: config.cluster_of(job).map(|(name, _)| name.to_owned()),
        // A disabled job has none: when it is enabled again, what passed meanwhile was not missed.
        schedule: job.common.schedule.as_ref().filter(|_| job.common.enabled).map(ToString::to_string),
        time_zone: config.zone_of(job).name().to_owned(),
    }
}
