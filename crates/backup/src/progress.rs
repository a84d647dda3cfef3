//! How far bulk work has come: counters that cost nothing to write and may be read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes done of bytes expected.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes done.
    pub done: u64,
    /// Bytes expected; 0 where unknown.
    pub total: u64,
}

impl Progress {
    /// Sets what is expected.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Adds to what is done.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reads both.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}
