//! Leases: who is at work in a repository (C9). Kept in the repository, so that every host sees them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};
use uuid::Uuid;

/// The claim of one process on one unfinished backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lease {
    /// The installation.
    pub instance: Uuid,
    /// The process of that installation; new at every start.
    pub process: Uuid,
    /// When its holder last said that it is at work.
    pub started_at: DateTime<Utc>,
    /// Where the process runs, by which its death is seen on the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A holder says at least so often that it is at work.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(60);

/// A holder that has said nothing for so long is not waited for.
const LONGEST_SILENCE: chrono::TimeDelta = chrono::TimeDelta::hours(1);

impl Lease {
    /// A lease of this process.
    pub fn new(instance: Uuid) -> Self {
        Self { instance, process: process_id(), started_at: pgbosun_core::clock::now(), place: Place::current() }
    }

    /// True where the holder is surely gone: it was this installation, which runs one process at a time (the lock of
    /// its state directory), and it was not this process, or this process has long given the backup up. Age alone proves
    /// nothing.
    pub fn is_dead(&self, instance: Uuid, key: &str) -> bool {
        self.instance == instance && (self.process != process_id() || !Active::knows(key))
    }

    /// True where the holder has said nothing for so long that nobody needs to wait for it. What it wrote is not for
    /// others to remove all the same. One that is dated in the future says nothing about now (C33): it must not block
    /// anybody until its time has come.
    pub fn is_silent(&self) -> bool {
        Self::is_silent_since(self.started_at, pgbosun_core::clock::now())
    }

    /// The same of any holder who last said something at this time.
    pub(crate) fn is_silent_since(said: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        (now - said).abs() > LONGEST_SILENCE
    }
}

static ACTIVE: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// A lease that this process holds, by its key; dropped when the work is over, however that was.
#[derive(Debug)]
pub struct Active(String);

impl Active {
    /// From now on this lease is alive.
    pub fn claim(key: &str) -> Self {
        ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        Self(key.to_owned())
    }

    fn knows(key: &str) -> bool {
        ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A process on a machine, by which others on the same machine see that it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// This boot of this machine, and the namespace that the process's number belongs to.
    machine: String,
    pid: u32,
    /// When the process began, in ticks since the boot: numbers are given anew.
    ticks: u64,
}

impl Place {
    /// This process; `None` where `/proc` does not say.
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { machine: machine()?, pid, ticks: ticks(pid)? })
    }

    /// True where the process is surely gone. Of one on another machine nobody can say.
    pub fn is_gone(&self) -> bool {
        machine().is_some_and(|machine| machine == self.machine) && ticks(self.pid) != Some(self.ticks)
    }
}

fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// When a process began: the 22nd field of its `stat`; the second is a name in parentheses that may hold anything.
fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The identity of this process.
pub fn process_id() -> Uuid {
    static PROCESS: LazyLock<Uuid> = LazyLock::new(Uuid::now_v7);
    *PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c33_a_lease_from_the_future_blocks_nobody() {
        let from_now = |minutes: i64| {
            let started_at = pgbosun_core::clock::now() + chrono::TimeDelta::minutes(minutes);
            Lease { instance: Uuid::nil(), process: Uuid::nil(), started_at, place: None }.is_silent()
        };
        assert!(!from_now(-59) && !from_now(1) && from_now(-61) && from_now(60 * 24 * 365));
    }
}
