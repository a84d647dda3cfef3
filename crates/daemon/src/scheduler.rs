//! The scheduler: woken by the alarm clock, asks the planner what is due, claims it, and starts it.
//!
//! Invariants: a run is in the journal before it begins; one pass claims all that is due in one transaction; a time of a
//! schedule has exactly one row, whether it ran, was skipped or was missed.

use crate::{
    again::{self, Again},
    alarm::Alarm,
    alerts,
    engine::Engine,
    error::{Error, chain},
    events, faults,
    heartbeats::Part,
    rows::{entry_of, jitter, missed, new_run, scheduled, unknown_job},
    slots::ExclusiveSlots,
    starts::Start,
};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    config::{Config, Job},
    human,
    run::{Run, RunState, Trigger},
    schedule::{Cron, Lateness, Rules, Schedule, occurrences, plan},
};
use pgbosun_history::{JobRow, Pause, RunFilter};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration as StdDuration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The setting that pauses everything.
pub(crate) const PAUSED_ALL: &str = "paused";

/// What others ask of the scheduler.
pub(crate) enum Request {
    /// Run a job now.
    Run { job: String, dry_run: bool, reply: oneshot::Sender<Result<Uuid, Error>> },
    /// The configuration changed.
    Reload { reply: oneshot::Sender<Result<(), Error>> },
}

/// A scheduled job between two passes.
struct Entry {
    job: Job,
    cron: Cron,
    zone: Tz,
    planned_until: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
    /// Nobody looked before: times that passed meanwhile fall under the catch-up rule.
    after_downtime: bool,
}

pub(crate) struct Scheduler {
    engine: Arc<Engine>,
    entries: Vec<Entry>,
    slots: ExclusiveSlots,
    starts: mpsc::Sender<Start>,
    alarm: Option<Alarm>,
}

impl Scheduler {
    /// Takes over the configured jobs and sets the alarm clock. `at_start` says that the daemon just started.
    pub async fn new(engine: Arc<Engine>, starts: mpsc::Sender<Start>) -> Result<Self, Error> {
        let slots = ExclusiveSlots::new(engine.config().daemon.max_concurrent_jobs);
        let mut scheduler = Self { engine, entries: Vec::new(), slots, starts, alarm: None };
        scheduler.take_over(true).await?;
        Ok(scheduler)
    }

    /// Works until the daemon stops.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let (engine, begun) = (Arc::clone(&self.engine), Instant::now());
        let heartbeat = engine.config().daemon.heartbeat;
        self.start_at_boot().await;
        let mut ended = true;
        loop {
            faults::stall(faults::STALL_SCHEDULER, begun.elapsed()).await;
            engine.heartbeats.beat(Part::Scheduler);
            // Before the first pass: what that catches up with is not run twice.
            let mut planned = if ended { self.run_again().await } else { Ok(()) };
            ended &= planned.is_err();
            if planned.is_ok() {
                planned = self.claim_due().await;
            }
            if let Err(error) = planned {
                // Nothing was claimed: the next pass finds the same. Not at once, or a full disk is a busy loop.
                tracing::error!("due runs cannot be claimed, trying again: {}", chain(&error));
                tokio::select! {
                    () = tokio::time::sleep(heartbeat) => continue,
                    () = engine.stop.cancelled() => return,
                }
            }
            tokio::select! {
                () = engine.stop.cancelled() => break,
                () = engine.wake.notified() => {}
                () = tokio::time::sleep(heartbeat) => {}
                Some(request) = requests.recv() => self.answer(request).await,
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Run { job, dry_run, reply } => {
                let _ = reply.send(self.run_now(&job, dry_run).await);
            }
            Request::Reload { reply } => {
                let _ = reply.send(self.take_over(false).await);
            }
        }
    }

    /// Brings entries, journal and alarm clock in line with the configuration.
    async fn take_over(&mut self, at_start: bool) -> Result<(), Error> {
        let config = self.engine.config();
        let now = self.engine.now();
        let (wake, heartbeats) = (Arc::clone(&self.engine.wake), Arc::clone(&self.engine.heartbeats));
        let schedules: Vec<_> = scheduled(&config).map(|(job, cron)| (cron.clone(), config.zone_of(job))).collect();
        let alarm = Alarm::start(&schedules, wake, heartbeats)?;
        self.engine.journal.sync_jobs(config.jobs.values().map(|job| entry_of(&config, job)).collect(), now).await?;
        let planned: HashMap<_, _> =
            self.engine.journal.jobs().await?.into_iter().map(|row| (row.name, row.planned_until)).collect();
        alerts::resolve_orphans(&self.engine, &config).await?;
        // From here on nothing fails: the whole configuration takes effect, or none of it did.
        self.entries = scheduled(&config)
            .map(|(job, cron)| Entry {
                job: job.clone(),
                cron: cron.clone(),
                zone: config.zone_of(job),
                planned_until: planned.get(&job.name).copied().unwrap_or(now),
                next: None,
                after_downtime: at_start,
            })
            .collect();
        self.slots.resize(config.daemon.max_concurrent_jobs);
        self.alarm = Some(alarm);
        Ok(())
    }

    /// `@reboot`.
    async fn start_at_boot(&mut self) {
        let config = self.engine.config();
        let at_start = |job: &&Job| job.common.enabled && job.common.schedule == Some(Schedule::AtStart);
        for job in config.jobs.values().filter(at_start) {
            let now = self.engine.now();
            let run = new_run(&config, job, Trigger::Start, now);
            if let Err(error) = self.claim(vec![(job.clone(), run, false)], Vec::new()).await {
                tracing::error!(job = job.name, "not started with the daemon: {}", chain(&error));
            }
        }
    }

    /// C40: what a stop or a crash ended runs again, or is told.
    async fn run_again(&mut self) -> Result<(), Error> {
        let (config, now) = (self.engine.config(), self.engine.now());
        let mut runs = Vec::new();
        let pauses = self.pauses().await?;
        for entry in self.entries.iter().filter(|entry| !entry.job.is_monitor()) {
            let name = &entry.job.name;
            let filter = RunFilter { job: Some(name.clone()), limit: 100, ..RunFilter::default() };
            let known = self.engine.journal.runs(filter).await?;
            let Some((ended, tries)) = again::ended(&known) else { continue };
            let reason =
                match again::decide(&entry.job, (&entry.cron, entry.zone, entry.planned_until), (ended, tries), now) {
                    Again::Later => continue,
                    Again::No(reason) => reason,
                    Again::Now => match self.reason_to_skip(&config, entry, Some(&pauses), now) {
                        None => {
                            tracing::warn!(
                                pgbosun_job = name,
                                "{name} runs again: its run {} was interrupted",
                                ended.id
                            );
                            let run = new_run(&config, &entry.job, Trigger::Start, ended.scheduled_for);
                            runs.push((entry.job.clone(), run, false));
                            continue;
                        }
                        Some(reason) => reason,
                    },
                };
            again::tell(&self.engine, &entry.job, ended, &reason).await?;
        }
        self.claim(runs, Vec::new()).await
    }

    async fn run_now(&mut self, name: &str, dry_run: bool) -> Result<Uuid, Error> {
        let config = self.engine.config();
        let Some(job) = config.jobs.get(name) else { return Err(unknown_job(&config, name)) };
        if let Some(other) = self.engine.live().get(name) {
            let told = human::span(self.engine.now() - other.since);
            return Err(Error::Refused(format!("job {name} has already been running for {told} (run {})", other.id)));
        }
        let run = new_run(&config, job, Trigger::Manual, self.engine.now());
        let id = run.id;
        self.claim(vec![(job.clone(), run, dry_run)], Vec::new()).await?;
        Ok(id)
    }

    /// Claims what is due of every schedule. A pass that fails leaves everything as it was, and the next finds the same.
    async fn claim_due(&mut self) -> Result<(), Error> {
        let before: Vec<_> = self.entries.iter().map(|e| (e.planned_until, e.next, e.after_downtime)).collect();
        let planned = self.try_claim_due().await;
        if planned.is_err() {
            for (entry, before) in self.entries.iter_mut().zip(before) {
                (entry.planned_until, entry.next, entry.after_downtime) = before;
            }
        }
        planned
    }

    async fn try_claim_due(&mut self) -> Result<(), Error> {
        let now = self.engine.now();
        let config = self.engine.config();
        let mut runs = Vec::new();
        let mut planned = Vec::new();
        let mut pauses = None;
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let asleep = entry.next.is_some_and(|next| now < next) && now >= entry.planned_until;
            if asleep {
                continue;
            }
            let common = &entry.job.common;
            let deadline = Duration::from_std(common.start_deadline).unwrap_or(Duration::days(365));
            let rules = Rules { catch_up: entry.job.catch_up(), start_deadline: deadline };
            let plan = plan(&entry.cron, entry.zone, rules, entry.planned_until, now, entry.after_downtime);
            if plan.clock_reset {
                tracing::warn!(
                    job = entry.job.name,
                    "the clock was set back by more than a day: the schedule starts afresh"
                );
            }
            let trigger = match plan.due.map(|due| due.lateness) {
                Some(Lateness::Late) if entry.after_downtime => Trigger::CatchUp,
                _ => Trigger::Schedule,
            };
            if plan.due.is_some() && pauses.is_none() {
                pauses = Some(self.pauses().await?);
            }
            for (position, time) in plan.missed.iter().enumerate() {
                let more = if position == 0 { plan.missed_before } else { 0 };
                runs.push((entry.job.clone(), missed(&config, &entry.job, *time, now, more), false));
            }
            if let Some(due) = plan.due {
                let mut run = new_run(&config, &entry.job, trigger, due.scheduled_for);
                let reason = self.reason_to_skip(&config, entry, pauses.as_ref(), now);
                if let Some(reason) = reason {
                    run.state = RunState::Skipped;
                    run.finished_at = Some(now);
                    run.summary = reason;
                }
                runs.push((entry.job.clone(), run, false));
            }
            if plan.due.is_some() || !plan.missed.is_empty() || plan.clock_reset {
                planned.push((entry.job.name.clone(), plan.planned_until));
            }
            let next = occurrences(&entry.cron, entry.zone, plan.planned_until).next();
            let entry = &mut self.entries[index];
            (entry.planned_until, entry.next, entry.after_downtime) = (plan.planned_until, next, false);
        }
        if runs.is_empty() && planned.is_empty() {
            return Ok(());
        }
        self.claim(runs, planned).await
    }

    async fn pauses(&self) -> Result<(Option<Pause>, HashMap<String, JobRow>), Error> {
        let all = self.engine.journal.setting(PAUSED_ALL).await?;
        let all = all.and_then(|text| serde_json::from_str(&text).ok());
        let jobs = self.engine.journal.jobs().await?;
        Ok((all, jobs.into_iter().filter(|row| row.paused_at.is_some()).map(|row| (row.name.clone(), row)).collect()))
    }

    fn reason_to_skip(
        &self,
        config: &Config,
        entry: &Entry,
        pauses: Option<&(Option<Pause>, HashMap<String, JobRow>)>,
        now: DateTime<Utc>,
    ) -> Option<String> {
        if let Some((all, jobs)) = pauses {
            if let Some(pause) = all {
                return Some(format!("all jobs are paused by {}: {}", pause.by, pause.reason));
            }
            if let Some(row) = jobs.get(&entry.job.name) {
                let (by, reason) = (row.paused_by.as_deref(), row.pause_reason.as_deref());
                return Some(format!(
                    "paused by {}: {}",
                    by.unwrap_or("somebody"),
                    reason.unwrap_or("no reason given")
                ));
            }
        }
        if let Some(window) = config.blackout_of(&entry.job, now) {
            return Some(format!("blackout window {window}"));
        }
        let live = self.engine.live();
        let other = live.get(&entry.job.name)?;
        Some(format!("the previous run {} is still running, after {}", other.id, human::span(now - other.since)))
    }

    /// Writes the rows and hands what may begin to the runner.
    async fn claim(&mut self, runs: Vec<(Job, Run, bool)>, planned: Vec<(String, DateTime<Utc>)>) -> Result<(), Error> {
        let config = self.engine.config();
        let mut starts = HashMap::new();
        let mut rows = Vec::new();
        for (job, mut run, dry_run) in runs {
            if !run.state.is_final() {
                let delay = if run.trigger == Trigger::Manual { StdDuration::ZERO } else { jitter(&self.engine, &job) };
                let claim = self.slots.of(&config, &job, dry_run);
                let permit = delay.is_zero().then(|| claim.at_once()).flatten();
                if permit.is_some() {
                    run.state = RunState::Running;
                    run.started_at = Some(self.engine.now());
                    run.attempts = 1;
                }
                match self.engine.occupy(&job.name, run.id) {
                    Ok(live) => drop(starts.insert(run.id, (job, live, claim, permit, delay, dry_run))),
                    Err(other) => {
                        run.state = RunState::Skipped;
                        (run.started_at, run.attempts, run.finished_at) = (None, 0, Some(self.engine.now()));
                        run.summary = format!("the previous run {} is still running", other.id);
                    }
                }
            }
            rows.push(run);
        }
        let claimed = match self.engine.journal.claim(rows, planned).await {
            Ok(claimed) => claimed,
            Err(error) => {
                starts.into_iter().for_each(|(id, (job, ..))| self.engine.vacate(&job.name, id));
                return Err(error.into());
            }
        };
        for run in claimed {
            if run.state.is_final() {
                let (job, state) = (&run.job, run.state);
                tracing::info!(
                    message_id = events::RUN_NOT_STARTED,
                    pgbosun_job = job,
                    "{job} {state}: {}",
                    run.summary
                );
            }
            if let Some((job, live, claim, permit, delay, dry_run)) = starts.remove(&run.id) {
                let start = Start { job, run, live, claim, permit, delay, dry_run };
                if self.starts.send(start).await.is_err() {
                    tracing::error!("the runner is gone");
                }
            }
        }
        // A time that had a row already does not begin again.
        for (id, (job, ..)) in starts {
            tracing::warn!(job = job.name, "this time of the schedule already has a row and does not run again");
            self.engine.vacate(&job.name, id);
        }
        Ok(())
    }
}
