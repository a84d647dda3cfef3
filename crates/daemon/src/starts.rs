//! From a claimed run to a run at work: its permits, its jitter, its start in the journal.
//!
//! Invariant: the place of a job's only run is given free when the run has ended, however that was.

use crate::{
    again,
    engine::{Engine, Live},
    error::chain,
    heartbeats::Part,
    runner,
    slots::{Permit, SlotClaim},
};
use pgbosun_core::{
    config::Job,
    human,
    run::{Run, RunState, Trigger},
    schedule::Schedule,
};
use pgbosun_history::RunEnd;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A run that may begin.
pub(crate) struct Start {
    pub job: Job,
    pub run: Run,
    pub live: Live,
    /// What it needs; a reload may have changed that for later ones.
    pub claim: SlotClaim,
    /// What it has already.
    pub permit: Option<Permit>,
    pub delay: Duration,
    pub dry_run: bool,
}

/// The loop that starts runs: a task each, tracked.
pub(crate) async fn start_runs(engine: Arc<Engine>, mut starts: mpsc::Receiver<Start>) {
    let heartbeat = engine.config().daemon.heartbeat;
    loop {
        engine.heartbeats.beat(Part::Runner);
        tokio::select! {
            start = starts.recv() => match start {
                Some(start) => {
                    let task = begin(Arc::clone(&engine), start);
                    engine.tasks.spawn(task);
                }
                None => break,
            },
            () = tokio::time::sleep(heartbeat) => {}
        }
    }
}

async fn begin(engine: Arc<Engine>, start: Start) {
    let Start { job, mut run, live, claim, permit, delay, dry_run } = start;
    let (name, id) = (job.name.clone(), run.id);
    let permit = match permit {
        Some(permit) => Some(permit),
        None => {
            live.progress.step("waiting for its turn", 0);
            let permit = tokio::select! {
                permit = async { tokio::time::sleep(delay).await; claim.wait().await } => permit,
                () = live.cancel.cancelled() => None,
            };
            live.progress.step("", 0);
            permit
        }
    };
    if permit.is_none() || live.cancel.is_cancelled() {
        let (state, by) = runner::cancelled_as(&engine, &job, run.trigger);
        run.state = state;
        run.finished_at = Some(engine.now());
        run.summary = format!("{by} before it started");
        end_unstarted(&engine, run).await;
    } else if let Some(reason) = too_late(&engine, &job, &run) {
        run.state = RunState::Skipped;
        run.finished_at = Some(engine.now());
        run.summary.clone_from(&reason);
        end_unstarted(&engine, run.clone()).await;
        let is_again = run.trigger == Trigger::Start && matches!(job.common.schedule, Some(Schedule::Cron(_)));
        if is_again && let Err(error) = again::tell(&engine, &job, &run, &reason).await {
            tracing::error!("the alert about {name} could not be written to the journal: {}", chain(&error));
        }
    } else {
        if run.started_at.is_none() {
            run.state = RunState::Running;
            run.attempts = 1;
            let now = engine.now();
            run.started_at = Some(now);
            while let Err(error) = engine.journal.start_run(id, now).await {
                tracing::error!(
                    "the start of a run could not be written to the journal yet, trying again: {}",
                    chain(&error)
                );
                tokio::time::sleep(Duration::from_secs(2)).await;
                if engine.stop.is_cancelled() {
                    break;
                }
            }
        }
        runner::execute(Arc::clone(&engine), job, run, live, dry_run).await;
    }
    drop(permit);
    engine.vacate(&name, id);
}

/// Why a run does not begin that waited for its permits until now.
fn too_late(engine: &Engine, job: &Job, run: &Run) -> Option<String> {
    if run.started_at.is_some() || run.trigger == Trigger::Manual {
        return None;
    }
    let (config, now) = (engine.config(), engine.now());
    let waited = (now - run.scheduled_for).to_std().unwrap_or_default();
    if waited > job.common.start_deadline {
        return Some(format!("its turn came {} late, which is past its start-deadline", human::duration(waited)));
    }
    let window = config.blackout_of(job, now)?;
    Some(format!("its turn came in the blackout window {window}"))
}

async fn end_unstarted(engine: &Engine, run: Run) {
    if let Err(error) = engine.journal.end_run(RunEnd::bare(run)).await {
        tracing::error!(
            "the end of a run could not be written to the journal; the next start records it: {}",
            chain(&error)
        );
    }
}
