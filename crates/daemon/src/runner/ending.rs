//! The end of a run: its final state, written in one transaction with everything the run brought.

use super::{End, WIND_DOWN};
use crate::{
    alerts,
    engine::Engine,
    error::{Error, chain},
    events, reports,
};
use chrono::Duration;
use pgbosun_core::{
    config::Job,
    detail::Detail,
    finding::{Finding, Severity},
    outcome::{BackupStateRecord, Outcome, Record},
    run::{Run, RunState},
};
use pgbosun_history::{NewNotification, RunEnd};
use pgbosun_notify::Observation;

/// How often the end of a run is written again while the journal cannot be written.
const REWRITE: std::time::Duration = std::time::Duration::from_secs(2);
/// How often all that a run brought is written again before the run alone is.
const WHOLE_TRIES: u32 = 10;

/// Writes the end of a run; the run as it ended.
pub(super) async fn finish(
    engine: &Engine,
    job: &Job,
    mut run: Run,
    end: End,
    ledger: Vec<Record>,
    severity: Severity,
    dry_run: bool,
) -> Run {
    let now = engine.now().max(run.started_at.unwrap_or_default());
    run.finished_at = Some(now);
    let (mut outcome, mut verdict) = match end {
        End::Done(outcome) if outcome.failed.is_some() => {
            run.state = RunState::Failed;
            run.error.clone_from(&outcome.failed);
            let reason = outcome.failed.as_deref().unwrap_or_default();
            run.summary = format!("{reason} ({})", outcome.summary);
            tracing::error!(message_id = events::RUN_FAILED, state = %run.state, "run failed: {}", run.summary);
            let verdict = broken_off(Some(failure(&run, severity)), &outcome);
            (outcome, Some(verdict))
        }
        End::Done(outcome) => {
            run.state = RunState::Succeeded;
            run.summary.clone_from(&outcome.summary);
            tracing::info!(message_id = events::RUN_SUCCEEDED, findings = outcome.findings.len(), "{}", run.summary);
            let verdict = Observation::Complete(outcome.findings.clone());
            (outcome, Some(verdict))
        }
        End::Failed { state, summary, error, output } => {
            tracing::error!(message_id = events::RUN_FAILED, state = %state, "run failed: {summary}");
            run.state = state;
            run.error = error;
            run.summary = summary;
            // One line is in the error already.
            let output = if output.lines().count() > 1 { output.as_str() } else { "" };
            let mut failure = failure(&run, severity);
            failure.detail = failure.detail.text(output);
            (Outcome::default(), Some(failed(failure)))
        }
        End::TimedOut(summary, done) => {
            tracing::error!(message_id = events::RUN_FAILED, state = %RunState::TimedOut, "run failed: {summary}");
            run.state = RunState::TimedOut;
            run.summary = summary;
            let verdict = broken_off(Some(failure(&run, severity)), &done);
            (kept(done), Some(verdict))
        }
        End::Unreachable(reason) => {
            tracing::warn!(message_id = events::RUN_FAILED, "could not check: {reason}");
            run.state = RunState::Failed;
            run.error = Some(reason.clone());
            run.summary = reason;
            (Outcome::default(), None)
        }
        End::Cancelled(state, reason, done) => {
            tracing::warn!(message_id = events::RUN_FAILED, "run {state}: {reason}");
            run.state = state;
            run.summary = if done.summary.is_empty() { reason } else { format!("{reason}; {}", done.summary) };
            let verdict = broken_off(None, &done);
            (kept(done), Some(verdict))
        }
    };
    outcome.records.splice(0..0, ledger);
    let mut messages = Vec::new();
    if let Some(issue) = outcome.report.take().filter(|_| !dry_run) {
        match reports::publish(engine, issue).await {
            Ok(made) => messages = made,
            Err(error) => {
                run.state = RunState::Failed;
                run.error = Some(format!("the report could not be kept: {error}"));
                verdict = Some(failed(failure(&run, severity)));
            }
        }
    }
    if run.state == RunState::Succeeded && job.common.notify_success && !dry_run {
        messages.extend(reports::succeeded(engine, job, &run));
    }
    if dry_run {
        // It did nothing, and is neither a success nor a failure of the job: alerts and counts stay as they are.
        if run.state != RunState::Succeeded {
            run.error.get_or_insert_with(|| run.summary.clone());
        }
        run.state = RunState::Skipped;
        run.summary = format!("dry run: {}", run.summary);
        (outcome, verdict) = (Outcome::default(), None);
    }
    let mut failures = 0;
    loop {
        let written = write(engine, job, &run, &outcome, &messages, verdict.clone()).await;
        match written {
            Ok(()) => {
                for record in &outcome.records {
                    if let Record::BackupState(BackupStateRecord { cluster, .. }) = record {
                        engine.reaches.forget(cluster);
                    }
                }
                if !dry_run {
                    engine.latest_metrics.count(&run);
                }
                if run.state == RunState::Succeeded && !dry_run {
                    engine.latest_metrics.keep(&run, outcome.metrics);
                } else if job.is_monitor() && !dry_run {
                    // What it saw last is not how it is.
                    engine.latest_metrics.keep(&run, Vec::new());
                }
                break;
            }
            Err(error) => {
                failures += 1;
                if failures == WHOLE_TRIES {
                    // Something of what the run brought may be what is refused: the run itself must not be lost by it.
                    run.error = Some(format!("not all of this run could be recorded: {}", chain(&error)));
                    // And the group hears of it: an alert about what it found would be refused again.
                    (outcome, verdict) = (Outcome::default(), verdict.map(|_| failed(failure(&run, severity))));
                }
                tracing::error!(
                    "the end of the run could not be written to the journal yet, trying again: {}",
                    chain(&error)
                );
                let patience = if engine.stop.is_cancelled() { WIND_DOWN / 10 } else { REWRITE };
                tokio::time::sleep(patience).await;
            }
        }
        if engine.stop.is_cancelled() && engine.tasks.is_closed() && engine.now() - now > Duration::seconds(60) {
            break; // The next start records it as interrupted.
        }
    }
    run
}

/// What stays of a run that was told to stop.
fn kept(done: Outcome) -> Outcome {
    Outcome { findings: done.findings, records: done.records, state: done.state, ..Outcome::default() }
}

/// What a run found until it broke off.
fn broken_off(failure: Option<Finding>, done: &Outcome) -> Observation {
    Observation::Partial { failure, findings: done.findings.clone() }
}

fn failed(failure: Finding) -> Observation {
    Observation::Partial { failure: Some(failure), findings: Vec::new() }
}

/// The alert that says a job failed.
fn failure(run: &Run, severity: Severity) -> Finding {
    let monitor = severity == Severity::Unknown;
    let (summary, meaning) = if monitor {
        let meaning = "The state is unknown until the check works again.";
        (format!("check {} could not run", run.job), meaning)
    } else {
        let end = if run.state == RunState::TimedOut { "timed out" } else { "failed" };
        (format!("job {} {end}", run.job), "The job did not complete.")
    };
    let advice = format!(
        "Fix the cause named below, then run it with \"pgbosun job run {0}\". \"journalctl PGBOSUN_RUN={1}\" shows \
         what happened.",
        run.job, run.id
    );
    let detail = Detail::error(&run.summary).fact("attempts", run.attempts);
    Finding::new(severity, "", summary).meaning(meaning).advice(advice).detail(detail)
}

async fn write(
    engine: &Engine,
    job: &Job,
    run: &Run,
    outcome: &Outcome,
    messages: &[NewNotification],
    verdict: Option<Observation>,
) -> Result<(), Error> {
    let end = RunEnd {
        run: run.clone(),
        findings: outcome.findings.clone(),
        judge: verdict.map(|verdict| alerts::judged(alerts::subject(job, run), verdict, engine.now())),
        records: outcome.records.clone(),
        messages: messages.to_vec(),
        state: outcome.state.clone(),
    };
    alerts::note(engine, &engine.journal.end_run(end).await?);
    Ok(())
}
