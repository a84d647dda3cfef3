//! Leases: who is at work in a repository (C9). Kept in the repository, so that every host sees them.

use chrono::{DateTime, Utc};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
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

    /// Whether somebody needs to wait for the holder. What it wrote is not for others to remove where it is not so.
    pub fn is_alive(&self, instance: Option<Uuid>, key: &str) -> bool {
        let dead = instance.is_some_and(|instance| self.is_dead(instance, key));
        !dead && is_at_work(self.place.as_ref(), self.started_at, pgbosun_core::clock::now())
    }
}

/// Whether one who last said something at this time may be at work still: it has not been silent for too long, nor is its process
/// gone. What is dated in the future says nothing about now (C33): it must not block anybody until its time has come.
pub(crate) fn is_at_work(place: Option<&Place>, said: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - said).abs() <= LONGEST_SILENCE && !place.is_some_and(Place::is_gone)
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
        if machine().is_none_or(|machine| machine != self.machine) {
            return false;
        }
        match ticks(self.pid) {
            Some(ticks) => ticks != self.ticks,
            // `/proc` may hide the processes of other users (`hidepid`).
            None => i32::try_from(self.pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)),
        }
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
            Lease { instance: Uuid::nil(), process: Uuid::nil(), started_at, place: None }.is_alive(None, "x")
        };
        assert!(from_now(-59) && from_now(1) && !from_now(-61) && !from_now(60 * 24 * 365));
    }

    #[test]
    fn c9_a_holder_of_another_installation_whose_process_is_gone_is_not_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let lease = Lease { process: Uuid::nil(), place: Place::of(child.id()), ..Lease::new(theirs) };
        let elsewhere = Lease { place: None, ..lease.clone() };
        assert!(lease.place.is_some() && lease.is_alive(Some(ours), "x") && lease.is_alive(None, "x"));
        assert!(!lease.is_alive(Some(theirs), "x"), "an installation runs one process at a time");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lease.is_alive(Some(ours), "x") && !lease.is_alive(None, "x"));
        assert!(elsewhere.is_alive(Some(ours), "x"), "of one on another machine nobody can say");
        assert!(!lease.is_dead(ours, "x"), "what it wrote is its installation's to remove");
    }
}
