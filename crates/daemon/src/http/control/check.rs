//! `check` as the daemon itself: with its user, its environment and what its unit lets it see and write. It runs this very program, whatever
//! was installed since, and the same code that the command runs without a daemon.
//!
//! Invariant: who asks says which cluster, by a name that is configured, and nothing else reaches the command line.

use super::{Answer, Control};
use crate::{
    api::{CheckAnswer, CheckRequest},
    error::Error,
};
use axum::{Json, extract::State};
use std::{path::absolute, process::Stdio, time::Duration};
use tokio::{process::Command, sync::Semaphore, time::timeout};

/// Each check has the server write a segment of WAL: one at a time.
static PERMIT: Semaphore = Semaphore::const_new(1);
/// How long one may take; those who ask wait longer.
const LIMIT: Duration = Duration::from_secs(300);
/// What is run: also where the file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

pub(super) async fn check(State(control): State<Control>, Json(request): Json<CheckRequest>) -> Answer<CheckAnswer> {
    let config = control.engine.config();
    // As texts: a path that somebody else names may lead to what hangs.
    if absolute(&config.path).ok() != Some(request.config) {
        return Ok(Json(CheckAnswer::Elsewhere(config.path.clone())));
    }
    if let Some(name) = request.cluster.as_ref().filter(|name| !config.clusters.contains_key(*name)) {
        return Err(Error::Refused(format!("no cluster {name} is configured")));
    }
    let _permit = PERMIT.acquire().await;
    let mut command = Command::new(THIS_PROGRAM);
    command.arg("--config").arg(&config.path).args(["--json", "--quiet", "--color", "never", "check", "--here", "--"]);
    // What systemd tells the daemon alone.
    command
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .env("PGBOSUN_LOG", "off");
    let run = command.args(&request.cluster).stdin(Stdio::null()).kill_on_drop(true).output();
    let failed = |why: String| Error::Refused(format!("check as the daemon: {why}"));
    let done = timeout(LIMIT, run).await.map_err(|_| failed("it took too long".into()))?;
    let done = done.map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&done.stdout).map(|lines| Json(CheckAnswer::Lines(lines))).map_err(|_| {
        let said = String::from_utf8_lossy(&done.stderr);
        let error: Option<serde_json::Value> = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let message = error.as_ref().and_then(|error| error["error"]["message"].as_str().map(str::to_owned));
        failed(message.unwrap_or_else(|| format!("{} {}", done.status, said.trim())))
    })
}
