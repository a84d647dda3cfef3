//! How far work has come: the step it is at, in words, and counters that cost nothing to write; all may be read at any time.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The step that work is at, and its bytes done of bytes expected.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    words: Mutex<Words>,
}

/// What is being done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The step; empty where nothing is said.
    pub step: String,
    /// Where it is in that step, as far as that is known.
    pub detail: String,
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
    /// Begins a step, of which so many bytes are expected; 0 where that is not known.
    pub fn step(&self, words: impl Into<String>, total: u64) {
        *self.lock() = Words { step: words.into(), detail: String::new() };
        self.expect(total);
    }

    /// Says how many bytes are expected of what is being done; what it is called stays.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Says where it is in the step.
    pub fn detail(&self, words: impl Into<String>) {
        self.lock().detail = words.into();
    }

    /// Adds to what is done.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is being done at this moment.
    pub fn words(&self) -> Words {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads both counters.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}
