//! From a claimed run to a run at work: its turn, its jitter, its start in the journal.
//!
//! Invariant: the place of a job's only run is given free when the run has ended, however that was.

use crate::{
    beats::Part,
    engine::{Engine, Live},
    error::chain,
    runner,
};
use pgbosun_core::{
    config::Job,
    run::{Run, RunState},
};
use pgbosun_history::RunEnd;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A run that may begin.
pub(crate) struct Start {
    pub job: Job,
    pub run: Run,
    pub live: Live,
    pub permit: Option<OwnedSemaphorePermit>,
    /// Where it waits for its turn; a reload may have changed the count for later ones.
    pub slots: Arc<Semaphore>,
    pub delay: Duration,
    pub dry_run: bool,
}

/// The loop that starts runs: a task each, tracked.
pub(crate) async fn start_runs(engine: Arc<Engine>, mut starts: mpsc::Receiver<Start>) {
    let heartbeat = engine.config().daemon.heartbeat;
    loop {
        engine.beats.beat(Part::Runner);
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
    let Start { job, mut run, live, permit, slots, delay, dry_run } = start;
    let (name, id) = (job.name.clone(), run.id);
    let permit = match permit {
        Some(permit) => Some(permit),
        None => tokio::select! {
            permit = async { tokio::time::sleep(delay).await; slots.acquire_owned().await.ok() } => permit,
            () = live.cancel.cancelled() => None,
        },
    };
    if permit.is_none() || live.cancel.is_cancelled() {
        run.state = RunState::Cancelled;
        run.finished_at = Some(engine.now());
        run.summary = "cancelled before it began".into();
        end_unstarted(&engine, run).await;
    } else {
        if run.started_at.is_none() {
            run.state = RunState::Running;
            run.attempts = 1;
            let now = engine.now();
            run.started_at = Some(now);
            while let Err(error) = engine.journal.start_run(id, now).await {
                tracing::error!("the start of a run is not in the journal yet, trying again: {}", chain(&error));
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

async fn end_unstarted(engine: &Engine, run: Run) {
    if let Err(error) = engine.journal.end_run(RunEnd::bare(run)).await {
        tracing::error!("the end of a run is not in the journal; the next start records it: {}", chain(&error));
    }
}
