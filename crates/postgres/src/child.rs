//! Child processes in a process group of their own; ending one ends its whole group (C24).

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::time::Duration;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A child that leads its own process group. Dropped, it is killed with its group.
#[derive(Debug)]
pub struct GroupChild {
    child: Child,
    group: Option<Pid>,
}

impl GroupChild {
    /// Starts a command as the leader of a new process group.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        // What systemd and the operator gave to the daemon is not for its children, secrets least of all (C25).
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = name.starts_with("PGBOSUN_") && name.contains("__");
            if ours
                || ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"].contains(&name.as_str())
            {
                command.env_remove(name);
            }
        }
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the leader.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// True once the leader has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `first` to the leader alone, which ends its own children in order as a server does; after `patience` the
    /// group is killed.
    pub async fn end(mut self, first: Signal, patience: Duration) {
        if let (Some(group), false) = (self.group, self.has_ended()) {
            let _ = kill(group, first);
            let _ = timeout(patience, self.child.wait()).await;
        }
    }

    /// Sends TERM to the whole group; after `patience` it is killed.
    pub async fn terminate(mut self, patience: Duration) {
        if let (Some(group), false) = (self.group, self.has_ended()) {
            let _ = killpg(group, Signal::SIGTERM);
            let _ = timeout(patience, self.child.wait()).await;
        }
    }
}

impl Drop for GroupChild {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // The group may be gone already; then nothing of that number is ours and nothing is signalled but ESRCH.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
