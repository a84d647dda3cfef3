//! The daemon from start to stop.

use crate::{
    accepted, alerts, alive,
    engine::Engine,
    error::Error,
    events,
    heartbeats::Part,
    history,
    http::{connections, control, scrape},
    outbox, reload,
    scheduler::{Request, Scheduler},
    starts, systemd, wal,
};
use pgbosun_core::{
    clock,
    config::Loaded,
    detail::Detail,
    finding::{Finding, Severity},
    run::Run,
};
use pgbosun_history::{Journal, RunEnd, StateLock};
use pgbosun_notify::Observation;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

/// How long a command may have the state directory when the daemon starts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal stops it. `bulk` is the runtime for bulk work.
///
/// # Errors
/// What keeps it from starting; once it is ready it ends only by a signal.
pub async fn run(path: PathBuf, loaded: Loaded, bulk: Handle) -> Result<(), Error> {
    // C33: from now on a clock that is set is seen.
    let _ = clock::by_uptime();
    let state = &loaded.config.daemon.state_directory;
    let lock = StateLock::wait(state, PATIENCE).await?;
    let journal = Journal::open(state).await?;
    let engine = Engine::new(loaded.config.clone(), journal, bulk);
    record_interrupted(&engine).await?;

    connections::take_descriptors();
    let mut signals = Signals::new()?;
    let listener = control::bind(&loaded.config.daemon.control_socket)?;
    let (starts, waiting) = mpsc::channel(1024);
    let (requests, asked) = mpsc::channel(64);
    let scheduler = Scheduler::new(Arc::clone(&engine), starts).await?;

    let mut tasks = JoinSet::new();
    tasks.spawn(control::serve(listener, Arc::clone(&engine), requests.clone()));
    tasks.spawn(starts::start_runs(Arc::clone(&engine), waiting));
    tasks.spawn(outbox::run(Arc::clone(&engine)));
    tasks.spawn(history::run(Arc::clone(&engine)));
    tasks.spawn(history::listen(Arc::clone(&engine)));
    tasks.spawn(systemd::run(Arc::clone(&engine)));
    tasks.spawn(alive::run(Arc::clone(&engine)));
    tasks.spawn(scrape::serve(Arc::clone(&engine)));
    tasks.spawn(connections::watch(Arc::clone(&engine)));
    tasks.spawn(wal::drain(Arc::clone(&engine)));
    tasks.spawn(wal::receive(Arc::clone(&engine)));
    tasks.spawn(scheduler.run(asked));
    accepted::keep(&loaded);
    reload::tell_kept_away(&engine, &loaded).await;
    systemd::ready(&systemd::status_line(&engine));
    tracing::info!(
        message_id = events::DAEMON_READY,
        jobs = loaded.config.jobs.len(),
        "pgbosun {} is ready",
        env!("CARGO_PKG_VERSION")
    );

    let effective = Mutex::new(loaded.effective);
    let asked = serve_signals(&engine, &path, &requests, &effective, &mut signals, &mut tasks).await;
    drop(requests);
    stop(&engine, tasks).await;
    let _ = std::fs::remove_file(&loaded.config.daemon.control_socket);
    drop(lock);
    // Only a stop that was asked for is a success: after any other, systemd starts anew.
    if asked { Ok(()) } else { Err(Error::Refused("a task of the daemon ended on its own: a bug in pgbosun".into())) }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(|source| Error::System("listen for signals", source));
        Ok(Self {
            hangup: of(SignalKind::hangup())?,
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }
}

/// Reloads on HUP; returns when the daemon shall stop: true where a signal asked for it.
async fn serve_signals(
    engine: &Arc<Engine>,
    path: &Path,
    requests: &mpsc::Sender<Request>,
    effective: &Mutex<Vec<pgbosun_core::config::Effective>>,
    signals: &mut Signals,
    tasks: &mut JoinSet<()>,
) -> bool {
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload::reload(engine, path, requests, effective).await,
            _ = signals.terminate.recv() => return true,
            _ = signals.interrupt.recv() => return true,
            ended = tasks.join_next() => {
                // None of them ends by itself. Without it the watchdog would starve anyway; better at once.
                tracing::error!(?ended, "a task of the daemon ended: stopping, systemd restarts it");
                return false;
            }
            () = engine.journal.closed() => {
                tracing::error!("the journal's writer ended: stopping, systemd restarts it");
                return false;
            }
        }
    }
}

/// Ends every run, records each, and lets delivery take what it can.
async fn stop(engine: &Arc<Engine>, mut tasks: JoinSet<()>) {
    tracing::info!(running = engine.live().len(), "stopping");
    systemd::stopping();
    let limit = engine.config().daemon.stop_timeout;
    let begun = Instant::now();
    engine.stop.cancel();
    engine.tasks.close();
    while begun.elapsed() < limit {
        let step = Duration::from_secs(5);
        systemd::extend(step * 3);
        if tokio::time::timeout(step.min(limit - begun.elapsed()), engine.tasks.wait()).await.is_ok() {
            break;
        }
        tracing::info!(running = engine.live().len(), "waiting for jobs to stop");
    }
    // A last pass for what the runs just wrote; what stays is delivered after the next start.
    let last = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(5), last).await.is_err() {
        tasks.shutdown().await;
    }
    tracing::info!("stopped after {:.1} s", begun.elapsed().as_secs_f64());
}

/// Runs that a crash left unfinished end as interrupted, and their groups are told.
///
/// # Errors
/// Where the journal cannot be read or written.
pub async fn record_interrupted(engine: &Engine) -> Result<(), Error> {
    engine.heartbeats.beat(Part::Runner);
    for run in engine.journal.unfinished(engine.now()).await? {
        tracing::warn!(pgbosun_job = run.job, pgbosun_run = %run.id, "{}: {}", run.job, run.summary);
        // One transaction: a run that is interrupted and an alert about it are one fact.
        let judge = engine.job(&run.job).map(|job| {
            let verdict = Observation::Partial { failure: Some(interrupted(&run)), findings: Vec::new() };
            alerts::judged(alerts::subject(&job, &run), verdict, engine.now())
        });
        let changes = engine.journal.end_run(RunEnd { judge, ..RunEnd::bare(run) }).await?;
        alerts::note(engine, &changes);
    }
    Ok(())
}

fn interrupted(run: &Run) -> Finding {
    let advice = format!(
        "What it left half done does not count. If its catch-up is \"once\" it runs again automatically, otherwise run it with \
         \"pgbosun job run {}\". \"journalctl -u pgbosun\" may show the cause.",
        run.job
    );
    Finding::new(Severity::Warning, "", format!("a run of {} was interrupted", run.job))
        .meaning("The daemon ended during this run: a crash, a kill or a power cut. The run's work may be incomplete.")
        .advice(advice)
        .detail(Detail::new().fact("run", run.id).fact("reason", &run.summary))
}
