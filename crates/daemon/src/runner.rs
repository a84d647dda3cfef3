//! The runner: one claimed run from its start to its end. Timeout, retries, cancellation, panics: whatever happens, the
//! run ends in exactly one final state, written together with everything it brought.

use crate::{
    engine::{Engine, Live, frame},
    error::chain,
    events,
};
use chrono::Duration;
use pgbosun_core::{
    alert::Notice,
    config::{Config, Job as JobConfig},
    finding::{Finding, Severity},
    human,
    outcome::Outcome,
    run::{Run, RunState},
};
use pgbosun_history::RunEnd;
use pgbosun_jobs::{Job, JobContext, JobError, View};
use pgbosun_notify::{Change, Subject, Verdict, judge};
use pgbosun_postgres::Server;
use std::sync::Arc;
use tracing::Instrument;

/// How long a job may take to wind down once it was told to stop.
const WIND_DOWN: std::time::Duration = std::time::Duration::from_secs(30);
/// The longest pause between two tries.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(3600);
/// How often the end of a run is written again while the journal cannot be written.
const REWRITE: std::time::Duration = std::time::Duration::from_secs(2);

/// How often all that a run brought is written again before the run alone is.
const WHOLE_TRIES: u32 = 10;

/// How the tries of a run ended.
enum End {
    Done(Outcome),
    Failed(RunState, String, Option<String>),
    /// A monitor could not look since its server is away, which another one tells.
    Unreachable(String),
    Cancelled(String),
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
        let end = End::Failed(RunState::Failed, format!("unknown kind of job {}", run.kind), None);
        return finish(&engine, &config, run, end, Severity::Unknown, dry_run).await;
    };
    let severity = job.failure_severity();
    let end = match context(&engine, &config, &run, &live, dry_run).await {
        Ok(context) => tries(&engine, &config, &mut run, &job, context).await,
        Err(error) => End::Failed(RunState::Failed, error.to_string(), None),
    };
    finish(&engine, &config, run, end, severity, dry_run).await
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
        line: engine.line(cluster.as_ref().map(|(name, _)| name.as_str())),
        view: view(engine, job).await?,
        cluster,
        state: engine.journal.job_state(&run.job).await?,
        journal: engine.journal.clone(),
        cancel: live.cancel.clone(),
        progress: Arc::clone(&live.progress),
        bulk: engine.bulk.clone(),
        config,
        dry_run,
    })
}

/// What is wrong already.
async fn view(engine: &Engine, job: &JobConfig) -> Result<View, JobError> {
    let open = engine.journal.open_alerts(Some(&job.name)).await?;
    let prefix = format!("{}/", job.name);
    let open = open
        .into_iter()
        .filter_map(|alert| Some((alert.fingerprint.strip_prefix(&prefix)?.to_owned(), alert.severity)));
    Ok(View { now: engine.now(), open: open.collect(), margin: job.common.leave_margin })
}

async fn tries(engine: &Engine, config: &JobConfig, run: &mut Run, job: &Arc<dyn Job>, context: JobContext) -> End {
    let (options, cancelled) = (&config.common, context.cancel.clone());
    let cancelled_by = || {
        let by = if engine.stop.is_cancelled() { "the daemon was stopped" } else { "cancelled by hand" };
        End::Cancelled(by.into())
    };
    loop {
        // Each try has a token of its own, so that a try that ran out of time is told to stop and the next is not.
        let cancel = cancelled.child_token();
        let try_context = JobContext { cancel: cancel.clone(), ..context.clone() };
        let task = Arc::clone(job);
        let span = tracing::Span::current();
        let mut work = engine.tasks.spawn(async move { task.run(&try_context).await }.instrument(span));
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = tokio::time::sleep(options.timeout) => {
                cancel.cancel();
                wind_down(engine, &mut work).await;
                let limit = human::duration(options.timeout);
                return End::Failed(RunState::TimedOut, format!("took longer than its timeout of {limit}"), None);
            }
            () = cancelled.cancelled() => {
                wind_down(engine, &mut work).await;
                return cancelled_by();
            }
        };
        let error = match outcome {
            Ok(Ok(outcome)) => return End::Done(outcome),
            Ok(Err(_)) if cancelled.is_cancelled() => return cancelled_by(),
            Ok(Err(error)) => error,
            Err(_) => return End::Failed(RunState::Failed, "the job broke off: a fault in pgbosun".into(), None),
        };
        let whole = chain(&error);
        if error.is_unreachable() && is_told_by_another(&engine.config(), config) {
            return End::Unreachable(whole);
        }
        if !error.is_transient() || run.attempts > options.retries {
            let tried = if run.attempts > 1 { format!(" (tried {} times)", run.attempts) } else { String::new() };
            return End::Failed(RunState::Failed, format!("{whole}{tried}"), Some(whole));
        }
        let pause = pause(config, run);
        tracing::warn!(error = whole, attempt = run.attempts, "try failed, next in {}", human::duration(pause));
        run.attempts += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancelled.cancelled() => return cancelled_by(),
        }
    }
}

/// Whether a monitor's failure says no more than the one that watches whether the server is there.
fn is_told_by_another(config: &Config, job: &JobConfig) -> bool {
    const TELLS: &str = "monitor.connectivity";
    let cluster = config.cluster_of(job).map(|(name, _)| name);
    let tells = |other: &JobConfig| {
        let watched = other.common.enabled && other.common.schedule.is_some();
        other.common.kind == TELLS && watched && config.cluster_of(other).map(|(name, _)| name) == cluster
    };
    job.is_monitor() && job.common.kind != TELLS && cluster.is_some() && config.jobs.values().any(tells)
}

/// Gives a job that was told to stop the time to end what it started.
async fn wind_down<T>(engine: &Engine, work: &mut tokio::task::JoinHandle<T>) {
    // A daemon that stops needs the rest of its time to write the end down.
    let limit = if engine.stop.is_cancelled() { engine.config().daemon.stop_timeout / 2 } else { WIND_DOWN };
    let limit = limit.min(WIND_DOWN);
    if tokio::time::timeout(limit, &mut *work).await.is_err() {
        tracing::error!("the job did not stop within {} and is given up", human::duration(limit));
        work.abort();
    }
}

/// Doubles from the configured delay, varied by a fifth so that many hosts do not come back together.
fn pause(config: &JobConfig, run: &Run) -> std::time::Duration {
    let doubled = config.common.retry_delay.saturating_mul(1 << (run.attempts - 1).min(16)).min(LONGEST_PAUSE);
    let spread = f64::from(run.id.as_bytes()[15] ^ run.attempts as u8) / 255.0;
    doubled.mul_f64(0.8 + 0.4 * spread)
}

async fn finish(engine: &Engine, config: &JobConfig, mut run: Run, end: End, severity: Severity, dry_run: bool) -> Run {
    let now = engine.now().max(run.started_at.unwrap_or_default());
    run.finished_at = Some(now);
    let (mut outcome, mut verdict) = match end {
        End::Done(outcome) if outcome.failed.is_some() => {
            run.state = RunState::Failed;
            run.error.clone_from(&outcome.failed);
            let reason = outcome.failed.as_deref().unwrap_or_default();
            run.summary = format!("{reason} ({})", outcome.summary);
            tracing::error!(message_id = events::RUN_FAILED, state = %run.state, "run failed: {}", run.summary);
            let verdict = Verdict::Failed(failure(&run, severity));
            (outcome, Some(verdict))
        }
        End::Done(outcome) => {
            run.state = RunState::Succeeded;
            run.summary.clone_from(&outcome.summary);
            tracing::info!(message_id = events::RUN_SUCCEEDED, findings = outcome.findings.len(), "{}", run.summary);
            let verdict = Verdict::Complete(outcome.findings.clone());
            (outcome, Some(verdict))
        }
        End::Failed(state, summary, error) => {
            tracing::error!(message_id = events::RUN_FAILED, state = %state, "run failed: {summary}");
            run.state = state;
            run.error = error;
            run.summary = summary;
            (Outcome::default(), Some(Verdict::Failed(failure(&run, severity))))
        }
        End::Unreachable(reason) => {
            tracing::warn!(message_id = events::RUN_FAILED, "could not look: {reason}");
            run.state = RunState::Failed;
            run.error = Some(reason.clone());
            run.summary = reason;
            (Outcome::default(), None)
        }
        End::Cancelled(reason) => {
            tracing::warn!(message_id = events::RUN_FAILED, "run cancelled: {reason}");
            run.state = RunState::Cancelled;
            run.summary = reason;
            (Outcome::default(), None)
        }
    };
    if dry_run {
        // It looked at nothing: alerts stay as they are.
        (outcome, verdict) = (Outcome::default(), None);
    }
    let mut failures = 0;
    loop {
        let written = write(engine, config, &run, &mut outcome, verdict.clone()).await;
        match written {
            Ok(()) => break,
            Err(error) => {
                failures += 1;
                if failures == WHOLE_TRIES {
                    // Something of what the run brought may be what is refused: the run itself must not be lost by it.
                    run.error = Some(format!("not all of this run could be written down: {}", chain(&error)));
                    (outcome, verdict) = (Outcome::default(), None);
                }
                tracing::error!("the end of the run is not in the journal yet, trying again: {}", chain(&error));
                let patience = if engine.stop.is_cancelled() { WIND_DOWN / 10 } else { REWRITE };
                tokio::time::sleep(patience).await;
            }
        }
        if engine.stop.is_cancelled() && engine.tasks.is_closed() && engine.now() - now > Duration::seconds(60) {
            break; // The next start records it as interrupted.
        }
    }
    engine.outbox.notify_one();
    run
}

/// The alert that says a job failed.
fn failure(run: &Run, severity: Severity) -> Finding {
    let monitor = severity == Severity::Unknown;
    Finding {
        object: String::new(),
        severity,
        summary: if monitor {
            format!("check {} could not be made", run.job)
        } else {
            format!("job {} {}", run.job, if run.state == RunState::TimedOut { "timed out" } else { "failed" })
        },
        meaning: if monitor {
            "Nobody knows how this stands until the check works again.".into()
        } else {
            "What it should have done is not done.".into()
        },
        advice: format!(
            "Mend the cause named below, then run it with \"pgbosun job run {0}\". \"journalctl PGBOSUN_RUN={1}\" shows \
             what happened.",
            run.job, run.id
        ),
        detail: format!("error: {}\ntries: {}", run.summary, run.attempts),
    }
}

async fn write(
    engine: &Engine,
    config: &JobConfig,
    run: &Run,
    outcome: &mut Outcome,
    verdict: Option<Verdict>,
) -> Result<(), pgbosun_history::Error> {
    let changes = match verdict {
        Some(verdict) => {
            let open = engine.journal.open_alerts(Some(&run.job)).await?;
            judge(&subject(engine, config, run), &open, verdict, engine.now())
        }
        None => Vec::new(),
    };
    let (alerts, notifications) = tell(engine, changes);
    let end = RunEnd {
        run: run.clone(),
        findings: outcome.findings.clone(),
        alerts,
        notifications,
        records: outcome.records.clone(),
        state: outcome.state.clone(),
    };
    engine.journal.end_run(end).await
}

/// Whose alerts a run's are.
pub(crate) fn subject(engine: &Engine, config: &JobConfig, run: &Run) -> Subject {
    let group = config.group.clone();
    let repeat = engine.config().groups.get(&group).map_or(std::time::Duration::ZERO, |group| group.repeat);
    Subject {
        job: run.job.clone(),
        cluster: run.cluster.clone(),
        group,
        repeat: Duration::from_std(repeat).unwrap_or(Duration::zero()),
        run_id: Some(run.id),
    }
}

/// Alerts as they stand now, and the messages that tell of them.
pub(crate) fn tell(
    engine: &Engine,
    changes: Vec<Change>,
) -> (Vec<pgbosun_core::alert::Alert>, Vec<pgbosun_history::NewNotification>) {
    let mut alerts = Vec::new();
    let mut notifications = Vec::new();
    for Change { alert, notice } in changes {
        if let Some(notice) = notice {
            let place = alert.cluster.as_deref().unwrap_or(&alert.job);
            if notice == Notice::Resolved {
                tracing::info!(
                    message_id = events::ALERT_RESOLVED,
                    alert = alert.fingerprint,
                    "{place}: over: {}",
                    alert.summary
                );
            } else {
                let severity = alert.severity.as_str();
                tracing::warn!(
                    message_id = events::ALERT_OPENED,
                    alert = alert.fingerprint,
                    severity,
                    "{place}: {}",
                    alert.summary
                );
            }
            let (renderer, frame) = frame(&engine.config(), &alert.group);
            notifications.push(renderer.alert(&frame, &alert, notice, engine.now()));
        }
        alerts.push(alert);
    }
    (alerts, notifications)
}
