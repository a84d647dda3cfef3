//! The control socket: HTTP over a unix socket, for the command. Group-readable; who asks is known from the socket.

mod alerts;
mod check;

use super::{connections::Commands, scrape};
use crate::{
    api::{
        ActionRequest, JobInfo, PushRequest, Refusal, ReportRequest, RestoreTest, Running, SUDO_USER, Started, Status,
    },
    engine::Engine,
    error::{Error, chain},
    holdings::{self, Holding},
    metrics::{self, Summary},
    reports,
    rows::unknown_job,
    schedule::{Upcoming, upcoming},
    scheduler::{PAUSED_ALL, Request},
    status,
    wal::Archiver,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Path, Query, State, connect_info::Connected},
    http::{Request as HttpRequest, StatusCode, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_backup::wal::Pushed;
use pgbosun_core::{
    finding::Severity,
    outcome::{AuditRecord, BackupStateRecord},
    report::Report,
    run::Run,
};
use pgbosun_history::{Actor, Pause, Process, RunFilter};
use serde::Deserialize;
use std::{convert::Infallible, os::unix::fs::PermissionsExt, path, sync::Arc};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
};
use uuid::Uuid;

/// Members of this group may use the socket (sysusers.d).
const GROUP: &str = "pgbosun";

/// As many days ahead as a schedule is told of over the socket.
const FURTHEST_DAYS: u16 = 400;
/// As many runs of one job.
const MOST_UPCOMING: usize = 500;

/// How late a command may tell of what it did.
const LATE: TimeDelta = TimeDelta::hours(1);

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Control {
    engine: Arc<Engine>,
    requests: mpsc::Sender<Request>,
    archiver: Arc<Archiver>,
}

/// Who is on the other end of a connection, where the kernel says so.
#[derive(Clone, Debug)]
struct Peer(Option<Process>);

impl Connected<IncomingStream<'_, Commands>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Commands>) -> Self {
        Self(stream.io().peer().ok().map(|peer| Process::peer(peer.uid(), peer.pid())))
    }
}

/// Who asks for something.
struct Asker(Actor);

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.0.as_ref());
        let sudo_user = parts.headers.get(SUDO_USER).and_then(|user| user.to_str().ok());
        Ok(Self(Actor::peer(peer, sudo_user)))
    }
}

type Answer<T> = Result<Json<T>, Error>;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Refusal { error: chain(&self) })).into_response()
    }
}

/// Makes the socket. One on which nobody listens is what a dead daemon left, and is replaced.
pub(crate) fn bind(socket: &path::Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket { path: socket.to_owned(), source };
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    // It would be deaf, and its end would take the socket of this one away.
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return Err(Error::Refused(format!(
            "another daemon listens on {}: stop it, or give this one a control-socket of its own",
            socket.display()
        )));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    // Where the group exists and the unit gives it to the daemon, its members may use the socket.
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP)
        && let Err(error) = nix::unistd::chown(socket, None, Some(group.gid))
    {
        tracing::warn!(%error, "the control socket is not open to the group {GROUP}");
    }
    Ok(listener)
}

/// Serves until the daemon stops.
pub(crate) async fn serve(listener: UnixListener, engine: Arc<Engine>, requests: mpsc::Sender<Request>) {
    let stop = engine.stop.clone();
    let metrics = Router::new().route("/metrics", get(scrape::page)).with_state(Arc::clone(&engine));
    let changes = Router::new()
        .route("/jobs/{name}/run", post(run_job))
        .route("/jobs/{name}/cancel", post(cancel_job))
        .route("/jobs/{name}/pause", post(pause_job))
        .route("/jobs/{name}/resume", post(resume_job))
        .route("/pause", post(pause_all))
        .route("/resume", post(resume_all))
        .route("/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/alerts/{id}/resolve", post(alerts::resolve))
        .route("/groups/test", post(alerts::test))
        .route("/silences", post(alerts::silence))
        .route("/silences/{id}/end", post(alerts::unsilence))
        .route("/backups", post(note_backups))
        .route("/audit", post(note_change))
        .layer(from_fn_with_state(Arc::clone(&engine), to_its_end));
    let routes = Router::new()
        .merge(changes)
        .route("/check", post(check::check))
        .route("/status", get(show_status))
        .route("/running", get(show_running))
        .route("/clusters/{name}/restore-test", get(show_restore_test))
        .route("/jobs", get(list_jobs))
        .route("/schedule", get(show_schedule))
        .route("/time-zone", get(show_time_zone))
        .route("/runs", get(list_runs))
        .route("/runs/{id}", get(show_run))
        .route("/runs/{id}/findings", get(show_findings))
        .route("/alerts", get(alerts::list))
        .route("/silences", get(alerts::silences))
        .route("/wal/push", post(push_wal))
        .route("/summary", get(show_summary))
        .route("/reports", post(make_report))
        .route("/repositories/{name}/last-seen", get(show_last_seen))
        .with_state(Control { archiver: Archiver::new(Arc::clone(&engine)), engine, requests })
        .merge(metrics);
    let served = axum::serve(Commands::new(listener), routes.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!("control socket: {error}");
    }
}

/// What was begun is written down, also where whoever asked does not wait for it.
async fn to_its_end(State(engine): State<Arc<Engine>>, request: HttpRequest<Body>, next: Next) -> Response {
    let handled = engine.tasks.spawn(next.run(request)).await;
    handled.unwrap_or_else(|error| Error::BrokeOff("answering", error).into_response())
}

async fn push_wal(State(control): State<Control>, Json(request): Json<PushRequest>) -> Answer<Pushed> {
    control.archiver.push(request).await.map(Json)
}

async fn show_status(State(control): State<Control>) -> Answer<Status> {
    status::assemble(&control.engine, true).await.map(Json)
}

async fn show_running(State(control): State<Control>) -> Json<Vec<Running>> {
    Json(status::running(&control.engine))
}

async fn show_restore_test(State(control): State<Control>, Path(cluster): Path<String>) -> Answer<Option<RestoreTest>> {
    status::last_restore_test(&control.engine, &cluster).await.map(Json)
}

async fn show_summary(State(control): State<Control>) -> Answer<Summary> {
    metrics::summary(&control.engine).await.map(Json)
}

async fn make_report(State(control): State<Control>, Json(request): Json<ReportRequest>) -> Answer<Report> {
    reports::make(&control.engine, &request).await.map(Json)
}

async fn note_backups(
    State(control): State<Control>,
    Asker(who): Asker,
    Json(changes): Json<Vec<BackupStateRecord>>,
) -> Answer<()> {
    let engine = &control.engine;
    for change in changes {
        let BackupStateRecord { label, repository, state, cluster } = change.clone();
        engine.reaches.forget(&cluster);
        let record =
            AuditRecord::new("note backup", label, format!("of {cluster} in {repository}")).came(state.as_str());
        let noted = engine.journal.note_backups(vec![change], engine.now()).await.map_err(Error::from);
        engine.audited(&who, record, noted).await?;
    }
    Ok(Json(()))
}

/// What a command changed by itself: its own word, which the origin says.
async fn note_change(State(control): State<Control>, Asker(who): Asker, Json(change): Json<AuditRecord>) -> Answer<()> {
    let who = Actor { origin: who.origin.replacen("control socket", "command over the control socket", 1), ..who };
    let now = control.engine.now();
    let at = change.at.clamp(now - LATE, now);
    Ok(Json(control.engine.journal.audit(&who, AuditRecord { at, ..change }).await?))
}

async fn show_last_seen(State(control): State<Control>, Path(repository): Path<String>) -> Answer<Vec<Holding>> {
    holdings::last_seen(&control.engine, &repository).await.map(Json)
}

async fn list_jobs(State(control): State<Control>) -> Answer<Vec<JobInfo>> {
    status::jobs(&control.engine).await.map(Json)
}

async fn run_job(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(name): Path<String>,
    Json(action): Json<ActionRequest>,
) -> Answer<Started> {
    let (reply, answer) = oneshot::channel();
    let request = Request::Run { job: name.clone(), dry_run: action.dry_run, reply };
    let gone = || Error::Refused("the daemon is stopping".into());
    let asked = control.requests.send(request).await.map_err(|_| gone());
    let begun = match asked {
        Ok(()) => answer.await.map_err(|_| gone()).flatten(),
        Err(gone) => Err(gone),
    };
    let mut record = AuditRecord::new("run", name, if action.dry_run { "dry run" } else { "" });
    if let Ok(run) = &begun {
        record = record.came(format!("begun: run {run}"));
    }
    let run = control.engine.audited(&who, record, begun).await?;
    Ok(Json(Started { run }))
}

async fn cancel_job(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(name): Path<String>,
    Json(action): Json<ActionRequest>,
) -> Answer<Started> {
    let known = control.engine.config().jobs.contains_key(&name);
    let live = match control.engine.live().get(&name).cloned() {
        Some(live) => Ok(live),
        None if known => Err(Error::Refused(format!("job {name} is not running"))),
        None => Err(unknown_job(&control.engine.config(), &name)),
    };
    let live = control.engine.audited(&who, AuditRecord::new("cancel", name, action.reason), live).await?;
    live.cancel.cancel();
    Ok(Json(Started { run: live.id }))
}

async fn pause_job(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(name): Path<String>,
    Json(action): Json<ActionRequest>,
) -> Answer<()> {
    set_pause(&control, &who, Some(name), action, true).await.map(Json)
}

async fn resume_job(
    State(control): State<Control>,
    Asker(who): Asker,
    Path(name): Path<String>,
    Json(action): Json<ActionRequest>,
) -> Answer<()> {
    set_pause(&control, &who, Some(name), action, false).await.map(Json)
}

async fn pause_all(State(control): State<Control>, Asker(who): Asker, Json(action): Json<ActionRequest>) -> Answer<()> {
    set_pause(&control, &who, None, action, true).await.map(Json)
}

async fn resume_all(
    State(control): State<Control>,
    Asker(who): Asker,
    Json(action): Json<ActionRequest>,
) -> Answer<()> {
    set_pause(&control, &who, None, action, false).await.map(Json)
}

/// Pauses or resumes one job, or all.
async fn set_pause(
    control: &Control,
    who: &Actor,
    job: Option<String>,
    action: ActionRequest,
    paused: bool,
) -> Result<(), Error> {
    let engine = &control.engine;
    let reason = action.reason.clone();
    let pause = paused.then(|| Pause { by: who.name.clone(), reason: reason.clone(), at: engine.now() });
    let done = match &job {
        Some(name) if !engine.config().jobs.contains_key(name) => Err(unknown_job(&engine.config(), name)),
        Some(name) => engine.journal.pause_job(name, pause).await.map_err(Error::from),
        None => {
            let text = pause.map(|pause| serde_json::json!(pause).to_string());
            engine.journal.set_setting(PAUSED_ALL, text.as_deref()).await.map_err(Error::from)
        }
    };
    let what = if paused { "pause" } else { "resume" };
    engine.audited(who, AuditRecord::new(what, job.unwrap_or_else(|| "all jobs".into()), reason), done).await
}

#[derive(Deserialize)]
struct ScheduleQuery {
    days: u16,
}

/// The first runs of each job: what is asked for by anybody has a limit, and no thread that others wait for does it.
async fn show_schedule(State(control): State<Control>, Query(query): Query<ScheduleQuery>) -> Answer<Vec<Upcoming>> {
    let (config, now) = (control.engine.config(), control.engine.now());
    let until = now + TimeDelta::days(query.days.min(FURTHEST_DAYS).into());
    let found = tokio::task::spawn_blocking(move || upcoming(&config, now, until, MOST_UPCOMING)).await;
    found.map(Json).map_err(|error| Error::BrokeOff("answering", error))
}

/// In which zone times are shown to whoever cannot read the configuration.
async fn show_time_zone(State(control): State<Control>) -> Json<chrono_tz::Tz> {
    Json(control.engine.config().daemon.time_zone)
}

/// What of history is asked for; without anything all of it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RunQuery {
    job: Option<String>,
    kind: Option<String>,
    since: Option<DateTime<Utc>>,
    #[serde(default)]
    failed: bool,
    // As earlier versions of the command ask.
    #[serde(default, rename = "without-looks")]
    without_monitors: bool,
    limit: Option<u32>,
}

async fn list_runs(State(control): State<Control>, Query(query): Query<RunQuery>) -> Answer<Vec<Run>> {
    let RunQuery { job, kind, since, failed, without_monitors, limit } = query;
    let limit = limit.unwrap_or(50);
    let filter = RunFilter { job, kind, since, failed, without_monitors, limit, ..RunFilter::default() };
    Ok(Json(control.engine.journal.runs(filter).await?))
}

async fn show_run(State(control): State<Control>, Path(id): Path<Uuid>) -> Answer<Option<Run>> {
    Ok(Json(control.engine.journal.run(id).await?))
}

async fn show_findings(State(control): State<Control>, Path(id): Path<Uuid>) -> Answer<Vec<(Severity, String)>> {
    Ok(Json(control.engine.journal.findings_of(id).await?))
}
