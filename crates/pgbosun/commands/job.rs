//! `pgbosun job`: list, run, cancel, pause, resume, history.

mod history;

use super::backup::stop_signal;
use crate::{
    cli::{JobCommand, PauseArguments},
    client::{Client, encoded},
    exit::{Exit, FAILURE, STOPPED},
    local::Context,
    output::{Column, ago, aside, bold, dim, done, json, moment, severity, state, table, text, whole, yellow},
    progress::Bar,
};
use pgbosun_backup::Snapshot;
use pgbosun_core::{
    config::{Job, nearest},
    family::is_check,
    finding::Severity,
    human,
    outcome::AuditRecord,
    run::{Run, RunState, Trigger},
};
use pgbosun_daemon::{
    api::{ActionRequest, JobInfo, Running, Started},
    list_jobs, new_run,
};
use pgbosun_history::Actor;
use std::{future::Future, pin::Pin, time::Duration};
use uuid::Uuid;

const LIST: [Column; 7] =
    [whole("JOB"), aside("KIND"), aside("CLUSTER"), aside("SCHEDULE"), text("NEXT"), whole("LAST"), whole("")];

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: JobCommand) -> anyhow::Result<u8> {
    match command {
        JobCommand::List => list(context).await,
        JobCommand::Run { name, wait, dry_run } => run_now(context, &name, wait, dry_run).await,
        JobCommand::Cancel { name } => {
            let daemon = context.need_daemon("cancelling a run").await?;
            let cancelled: Started =
                daemon.post(&format!("/jobs/{}/cancel", encoded(&name)), &ActionRequest::default()).await?;
            let words = format!("run {} of {name} is being cancelled", cancelled.run);
            done(context.json, &serde_json::json!({"job": name, "run": cancelled.run}), &words)?;
            Ok(0)
        }
        JobCommand::Pause(arguments) => pause(context, arguments, "pause").await,
        JobCommand::Resume(arguments) => pause(context, arguments, "resume").await,
        JobCommand::History(arguments) => history::run(context, arguments).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<u8> {
    let jobs: Vec<JobInfo> = match context.daemon().await? {
        Some(daemon) => daemon.get("/jobs").await?,
        None => {
            tell!("{}", dim("no daemon is running: none of these jobs runs on its own"));
            list_jobs(context.offline().await?.engine.as_ref()).await?
        }
    };
    if context.json {
        json(&jobs)?;
        return Ok(0);
    }
    let zone = context.zone();
    let rows = jobs.iter().map(|job| {
        let next = match (&job.paused, job.next) {
            (Some(reason), _) => yellow(&format!("paused {reason}")),
            (None, Some(next)) => moment(next, zone),
            (None, None) => dim("on demand"),
        };
        let last = job.last.as_ref();
        vec![
            job.name.clone(),
            job.kind.clone(),
            job.cluster.clone().unwrap_or_default(),
            job.schedule.clone().unwrap_or_default(),
            next,
            last.map_or_else(String::new, |run| state(run.state)),
            last.and_then(|run| run.finished_at).map_or_else(String::new, ago),
        ]
    });
    say!("{}", table(&LIST, rows));
    Ok(0)
}

/// Runs a job through the daemon, or without it in this process.
pub async fn run_now(context: &Context, name: &str, wait: bool, dry_run: bool) -> anyhow::Result<u8> {
    let Some(run) = run_job(context, name, wait, dry_run).await? else { return Ok(0) };
    let found = found(context, &run).await?;
    if context.json {
        json(&run)?;
    } else {
        tell_run(&run, &found);
    }
    let is_done = run.state == RunState::Succeeded || (dry_run && run.error.is_none());
    let worst = found.first().map_or(Severity::Ok, |(worst, _)| *worst);
    Ok(match worst {
        // Nobody knows how it stands.
        _ if !is_done && run.is_monitor() && !dry_run => Severity::Unknown.exit_code(),
        _ if !is_done => FAILURE,
        worst if run.is_monitor() || (is_check(&run.kind) && worst == Severity::Critical) => worst.exit_code(),
        _ => 0,
    })
}

/// How many findings a monitor tells of.
const FINDINGS: usize = 10;

/// What a successful run found, worst first.
async fn found(context: &Context, run: &Run) -> anyhow::Result<Vec<(Severity, String)>> {
    if run.state != RunState::Succeeded {
        return Ok(Vec::new());
    }
    match context.daemon().await? {
        // A daemon of an earlier version does not know the question.
        Some(daemon) => Ok(daemon.get(&format!("/runs/{}/findings", run.id)).await.unwrap_or_default()),
        None => Ok(context.offline().await?.engine.journal.findings_of(run.id).await?),
    }
}

/// How a run ended, what it found, and last what it says of the whole: a monitor that succeeded may have seen the worst, and that is what
/// it came to.
fn tell_run(run: &Run, found: &[(Severity, String)]) {
    match found.first() {
        Some((worst, _)) if run.is_monitor() => say!("checked: {} {} {}", severity(*worst), bold(&run.job), took(run)),
        _ => say!("{}", ended(run)),
    }
    for (word, summary) in found.iter().take(FINDINGS) {
        say!("  {} {}", severity(*word), human::line(summary));
    }
    if let Some(more @ 1..) = found.len().checked_sub(FINDINGS) {
        say!("  and {more} more: \"pgbosun alert list\"");
    }
    say!("{}", human::plain(&run.summary));
}

/// How a run ended, in two lines.
pub fn told(run: &Run) -> String {
    format!("{}\n{}", ended(run), human::plain(&run.summary))
}

fn ended(run: &Run) -> String {
    format!("{} {} {}", state(run.state), bold(&run.job), took(run))
}

fn took(run: &Run) -> String {
    run.finished_at.zip(run.started_at).map_or_else(String::new, |(end, start)| human::span(end - start))
}

/// The job of this name.
pub fn configured<'a>(context: &'a Context, name: &str) -> anyhow::Result<&'a Job> {
    context.config.jobs.get(name).ok_or_else(|| {
        let near = nearest(name, context.config.jobs.keys().map(String::as_str));
        let hint = near.map_or_else(
            || "\"pgbosun job list\" shows those that are".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Exit::usage(format!("no job {name} is configured; {hint}"))
    })
}

/// Runs a job through the daemon, or without it in this process; nothing where it is not waited for.
pub async fn run_job(context: &Context, name: &str, wait: bool, dry_run: bool) -> anyhow::Result<Option<Run>> {
    // The daemon knows its own, also where this user may not read what is configured.
    if !context.is_guest {
        configured(context, name)?;
    }
    let Some(daemon) = context.daemon().await? else {
        tell!("{}", dim("no daemon is running: running the job here"));
        return run_here(context, configured(context, name)?, dry_run).await.map(Some);
    };
    let action = ActionRequest { dry_run, ..ActionRequest::default() };
    // Before the run begins: a signal between that and the waiting would say nothing of it.
    let mut stop = std::pin::pin!(stop_signal());
    let _ = futures::poll!(stop.as_mut());
    let started: Started = daemon.post(&format!("/jobs/{}/run", encoded(name)), &action).await?;
    if !wait && !dry_run {
        let words = format!("run {} of {name} started; \"pgbosun job history {name}\" shows how it ended", started.run);
        done(context.json, &serde_json::json!({"job": name, "run": started.run}), &words)?;
        return Ok(None);
    }
    wait_for(&daemon, name, started.run, stop).await.map(Some)
}

async fn run_here(context: &Context, job: &Job, dry_run: bool) -> anyhow::Result<Run> {
    let offline = context.offline().await?;
    let engine = &offline.engine;
    let now = engine.now();
    let run = Run {
        state: RunState::Running,
        started_at: Some(now),
        attempts: 1,
        ..new_run(&context.config, job, Trigger::Manual, now)
    };
    pgbosun_daemon::record_interrupted(engine).await?;
    engine.journal.claim(vec![run.clone()], Vec::new()).await?;
    let live = engine.occupy(&job.name, run.id).map_err(|_| Exit::refused("the job is already running"))?;
    let change = AuditRecord::new("run", &job.name, if dry_run { "dry run" } else { "" });
    engine.audited(&Actor::own(), change.came(format!("begun: run {}", run.id)), Ok(())).await?;
    let cancel = live.cancel.clone();
    let task = pgbosun_daemon::execute(std::sync::Arc::clone(engine), job.clone(), run, live, dry_run);
    let mut task = std::pin::pin!(task);
    let run = tokio::select! {
        run = &mut task => run,
        () = stop_signal() => {
            tell!("cancelling the run …");
            cancel.cancel();
            task.await
        }
    };
    pgbosun_daemon::send_due(engine).await?;
    Ok(run)
}

/// Waits for a run of the daemon's, showing how far it is. Who is told to stop stops waiting: the run is the daemon's.
async fn wait_for(
    daemon: &Client,
    name: &str,
    id: Uuid,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<Run> {
    let mut bar = Bar::new(name);
    loop {
        let run: Option<Run> = daemon.get(&format!("/runs/{id}")).await?;
        if let Some(run) = run.filter(|run| run.state.is_final()) {
            bar.clear();
            return Ok(run);
        }
        let running: Vec<Running> = daemon.get("/running").await?;
        if let Some(running) = running.iter().find(|running| running.id == id) {
            bar.show(Snapshot { done: running.done, total: running.total }, &running.words());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = &mut stop => {
                bar.clear();
                let message = format!(
                    "no longer waiting; {name} continues in the daemon. \"pgbosun job cancel {name}\" cancels it, \"pgbosun job \
                     history {name}\" shows how it ended"
                );
                return Err(Exit { code: STOPPED, message }.into());
            }
        }
    }
}

async fn pause(context: &Context, arguments: PauseArguments, what: &str) -> anyhow::Result<u8> {
    let daemon = context.need_daemon("pausing").await?;
    let action = ActionRequest { reason: arguments.reason, ..ActionRequest::default() };
    let (path, object) = match arguments.name {
        Some(ref name) => (format!("/jobs/{}/{what}", encoded(name)), name.as_str()),
        None => (format!("/{what}"), "all jobs"),
    };
    let () = daemon.post(&path, &action).await?;
    let value = serde_json::json!({"job": arguments.name, "paused": what == "pause"});
    done(context.json, &value, &format!("{what}d {object}"))?;
    Ok(0)
}
