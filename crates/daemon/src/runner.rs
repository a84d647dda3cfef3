//! The runner: one claimed run from its start to its end. Timeout, retries, cancellation, panics: whatever happens, the
//! run ends in exactly one final state, written together with everything it brought.

mod ending;
mod keeper;

use crate::{
    engine::{Engine, Live},
    error::chain,
    events,
};
use ending::finish;
use pgbosun_core::{
    alert::AlertState,
    config::{Config, Job as JobConfig},
    family::Family,
    finding::Severity,
    human,
    outcome::Outcome,
    run::{Run, RunState, Trigger},
};
use pgbosun_jobs::{Baseline, Job, JobContext, JobError, Ledger};
use pgbosun_postgres::Server;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How long a job may take to wind down once it was told to stop.
const WIND_DOWN: std::time::Duration = std::time::Duration::from_secs(15);
/// The longest pause between two tries.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(3600);
/// How the tries of a run ended.
enum End {
    Done(Outcome),
    Failed {
        state: RunState,
        summary: String,
        error: Option<String>,
        /// The end of what a program said.
        output: String,
    },
    /// Out of time, and what it had done by then.
    TimedOut(String, Outcome),
    /// A monitor could not check since its server is away, which another one tells.
    Unreachable(String),
    /// Told to stop, and what it had done by then.
    Cancelled(RunState, String, Outcome),
}

impl End {
    fn failed(summary: String) -> Self {
        Self::Failed { state: RunState::Failed, summary, error: None, output: String::new() }
    }
}

/// Executes a run whose row says `running`, and writes its end. Returns the run as it ended.
pub async fn execute(engine: Arc<Engine>, config: JobConfig, run: Run, live: Live, dry_run: bool) -> Run {
    let span = tracing::info_span!(
        "run",
        pgbosun_job = run.job,
        pgbosun_run = %run.id,
        pgbosun_cluster = run.cluster.as_deref().unwrap_or("")
    );
    Box::pin(execute_in_span(engine, config, run, live, dry_run)).instrument(span).await
}

async fn execute_in_span(engine: Arc<Engine>, config: JobConfig, mut run: Run, live: Live, dry_run: bool) -> Run {
    tracing::info!(message_id = events::RUN_STARTED, trigger = %run.trigger, "run started");
    let Some(job) = pgbosun_jobs::build(&config).map(Arc::<dyn Job>::from) else {
        let end = End::failed(format!("unknown kind of job {}", run.kind));
        return finish(&engine, &config, run, end, Vec::new(), Severity::Unknown, dry_run).await;
    };
    let severity = job.failure_severity();
    let ledger = Ledger::default();
    let end = match context(&engine, &config, &run, &live, dry_run).await {
        Ok(context) => {
            let context = JobContext { ledger: ledger.clone(), ..context };
            let done = CancellationToken::new();
            let keep = || keeper::keep(Arc::clone(&engine), run.clone(), ledger.clone(), done.clone());
            // A dry run does nothing that could be kept.
            let keeper = (!dry_run).then(|| engine.tasks.spawn(keep()));
            let end = tries(&engine, &config, &mut run, &job, context).await;
            done.cancel();
            if let Some(keeper) = keeper {
                let _ = keeper.await;
            }
            end
        }
        Err(error) => End::failed(error.to_string()),
    };
    finish(&engine, &config, run, end, ledger.take(), severity, dry_run).await
}

async fn context(
    engine: &Engine,
    job: &JobConfig,
    run: &Run,
    live: &Live,
    dry_run: bool,
) -> Result<JobContext, JobError> {
    let config = engine.config();
    let cluster = match config.cluster_of(job) {
        Some((name, cluster)) => Some((name.to_owned(), Server::of(cluster)?)),
        None => None,
    };
    Ok(JobContext {
        run_id: run.id,
        job: run.job.clone(),
        trigger: run.trigger,
        connection: engine.connection(cluster.as_ref().map(|(name, _)| name.as_str())),
        baseline: baseline(engine, job).await?,
        cluster,
        state: engine.journal.job_state(&run.job).await?,
        journal: engine.journal.clone(),
        cancel: live.cancel.clone(),
        progress: Arc::clone(&live.progress),
        bulk: engine.bulk.clone(),
        ledger: Ledger::default(),
        config,
        dry_run,
    })
}

/// What is wrong already.
async fn baseline(engine: &Engine, job: &JobConfig) -> Result<Baseline, JobError> {
    // Only monitors ask. What is pending is judged as what is new: a margin is for leaving what was entered.
    let open = if job.is_monitor() { engine.journal.open_alerts(Some(&job.name)).await? } else { Vec::new() };
    let open = open.into_iter().filter(|alert| alert.state != AlertState::Pending);
    let open = open.map(|alert| (alert.object().to_owned(), alert.severity));
    Ok(Baseline { now: engine.now(), open: open.collect(), margin: job.common.leave_margin })
}

async fn tries(engine: &Engine, config: &JobConfig, run: &mut Run, job: &Arc<dyn Job>, context: JobContext) -> End {
    let (options, cancelled) = (&config.common, context.cancel.clone());
    let trigger = run.trigger;
    // Asked at once: the daemon may stop while what a person cancelled comes to its end.
    let cancelled_as = || cancelled_as(engine, config, trigger);
    let cancelled_by = |(state, by): (RunState, &str), done| End::Cancelled(state, by.into(), done);
    let limit = options.timeout.max(job.least_timeout());
    loop {
        // Each try has a token of its own, so that a try that ran out of time is told to stop and the next is not.
        let cancel = cancelled.child_token();
        let try_context = JobContext { cancel: cancel.clone(), ..context.clone() };
        let task = Arc::clone(job);
        let span = tracing::Span::current();
        let mut work = engine.tasks.spawn(async move { task.run(&try_context).await }.instrument(span));
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = tokio::time::sleep(limit) => {
                cancel.cancel();
                let done = wind_down(engine, &mut work).await;
                return End::TimedOut(format!("took longer than its timeout of {}", human::duration(limit)), done);
            }
            () = cancelled.cancelled() => {
                let how = cancelled_as();
                return cancelled_by(how, wind_down(engine, &mut work).await);
            }
        };
        let cluster = context.cluster.as_ref().map(|(name, _)| name);
        let error = match outcome {
            Ok(Ok(outcome)) => {
                if let (Some(name), Some(connected)) = (cluster, connected(config, &outcome)) {
                    engine.latest_metrics.connected(name, connected, engine.now());
                }
                return End::Done(outcome);
            }
            Ok(Err(_)) if cancelled.is_cancelled() => return cancelled_by(cancelled_as(), Outcome::default()),
            Ok(Err(error)) => error,
            Err(_) => {
                return End::failed("the job ended unexpectedly: a fault in pgbosun".into());
            }
        };
        let whole = chain(&error);
        if error.has_no_connection() {
            cluster.inspect(|name| engine.latest_metrics.connected(name, false, engine.now()));
        }
        if error.is_unreachable() && is_told_by_another(&engine.config(), config) {
            return End::Unreachable(whole);
        }
        if !error.is_transient() || run.attempts > options.retries || context.dry_run {
            let tried = if run.attempts > 1 { format!(" (tried {} times)", run.attempts) } else { String::new() };
            let (state, output) = (RunState::Failed, error.output().to_owned());
            return End::Failed { state, summary: format!("{whole}{tried}"), error: Some(whole), output };
        }
        let pause = pause(config, run);
        let (attempt, wait) = (run.attempts, human::duration(pause));
        tracing::warn!(error = whole, attempt, "attempt failed, next in {wait}");
        context.progress.step(format!("attempt {attempt} failed: {}; the next is in {wait}", human::line(&whole)), 0);
        run.attempts += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancelled.cancelled() => return cancelled_by(cancelled_as(), Outcome::default()),
        }
        context.progress.step(format!("attempt {}", run.attempts), 0);
    }
}

/// How a run ends that is told to: by a person, or since the daemon stops. A check that a stop cut short is made up for by the next, and
/// what a person began by a person.
pub(crate) fn cancelled_as(engine: &Engine, job: &JobConfig, trigger: Trigger) -> (RunState, &'static str) {
    match engine.stop.is_cancelled() {
        false => (RunState::Cancelled, "cancelled by hand"),
        true if job.is_monitor() || trigger == Trigger::Manual => (RunState::Cancelled, "the daemon was stopped"),
        true => (RunState::Interrupted, "the daemon was stopped"),
    }
}

/// Whether a job that succeeded could connect to its server, where that is known: a report also tells of one that is down, and the
/// monitor that watches for it measures it.
fn connected(job: &JobConfig, outcome: &Outcome) -> Option<bool> {
    let measured = outcome.metrics.iter().find(|metric| metric.name == "postgres_up").map(|metric| metric.value > 0.0);
    measured.or((job.needs.server() && job.family() != Family::Report).then_some(true))
}

/// The kind that watches whether a server is there.
const CONNECTIVITY: &str = "monitor.connectivity";

/// Whether a monitor's failure says no more than the one that watches whether the server is there.
fn is_told_by_another(config: &Config, job: &JobConfig) -> bool {
    let cluster = config.cluster_of(job).map(|(name, _)| name);
    let tells = |other: &JobConfig| {
        let watched = other.common.enabled && other.common.schedule.is_some();
        other.common.kind == CONNECTIVITY && watched && config.cluster_of(other).map(|(name, _)| name) == cluster
    };
    job.is_monitor() && job.common.kind != CONNECTIVITY && cluster.is_some() && config.jobs.values().any(tells)
}

/// Gives a job that was told to stop the time to end what it started; what it had done.
async fn wind_down(engine: &Engine, work: &mut JoinHandle<Result<Outcome, JobError>>) -> Outcome {
    // A daemon that stops needs the rest of its time to write the end down.
    let limit = if engine.stop.is_cancelled() { engine.config().daemon.stop_timeout / 2 } else { WIND_DOWN };
    let limit = limit.min(WIND_DOWN);
    match tokio::time::timeout(limit, &mut *work).await {
        Ok(Ok(Ok(done))) => done,
        Ok(_) => Outcome::default(),
        Err(_) => {
            tracing::error!("the job did not stop within {} and is abandoned", human::duration(limit));
            work.abort();
            Outcome::default()
        }
    }
}

/// Doubles from the configured delay, varied by a fifth so that many hosts do not come back together.
fn pause(config: &JobConfig, run: &Run) -> std::time::Duration {
    let doubled = config.common.retry_delay.saturating_mul(1 << (run.attempts - 1).min(16)).min(LONGEST_PAUSE);
    let spread = f64::from(run.id.as_bytes()[15] ^ run.attempts as u8) / 255.0;
    doubled.mul_f64(0.8 + 0.4 * spread)
}
