//! `check` as the daemon itself: with its user, its environment and what its unit lets it see and write. It runs this very program, whatever
//! was installed since, and the same code that the command runs without a daemon.

use super::{Answer, Control};
use crate::{api::CheckRequest, error::Error};
use axum::{Json, extract::State};
use std::process::Stdio;
use tokio::{process::Command, sync::Semaphore};

/// Each check has the server write a segment of WAL: one at a time.
static TURN: Semaphore = Semaphore::const_new(1);

/// What is run: also where the file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

pub(super) async fn check(
    State(control): State<Control>,
    Json(request): Json<CheckRequest>,
) -> Answer<serde_json::Value> {
    let path = control.engine.config().path.clone();
    let same = |a: &std::path::Path, b: &std::path::Path| a.canonicalize().ok() == b.canonicalize().ok();
    if !same(&path, &request.config) {
        return Err(Error::Refused(format!("the daemon's configuration is {}", path.display())));
    }
    let _turn = TURN.acquire().await;
    let mut command = Command::new(THIS_PROGRAM);
    command.arg("--config").arg(&path).args(["--json", "--color", "never", "check", "--here"]).args(&request.cluster);
    // What systemd tells the daemon alone.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let done = done.map_err(|error| Error::Refused(format!("check as the daemon: {error}")))?;
    serde_json::from_slice(&done.stdout).map(Json).map_err(|_| {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Error::Refused(if said.is_empty() { format!("check as the daemon: {}", done.status) } else { said })
    })
}
