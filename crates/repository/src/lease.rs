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
}

/// A holder says at least so often that it is at work.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(60);

/// A holder that has said nothing for so long is not waited for.
const LONGEST_SILENCE: chrono::TimeDelta = chrono::TimeDelta::hours(1);

impl Lease {
    /// A lease of this process.
    pub fn new(instance: Uuid) -> Self {
        Self { instance, process: process_id(), started_at: pgbosun_core::clock::now() }
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
        (pgbosun_core::clock::now() - self.started_at).abs() > LONGEST_SILENCE
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
            Lease { instance: Uuid::nil(), process: Uuid::nil(), started_at }.is_silent()
        };
        assert!(!from_now(-59) && !from_now(1) && from_now(-61) && from_now(60 * 24 * 365));
    }
}
