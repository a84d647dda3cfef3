//! Holds bulk work to a rate. For blocking threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Counts from when it was made; shared by all threads of the work.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    limit: Option<u64>,
    done: AtomicU64,
}

impl Pace {
    /// At most so many bytes in a second.
    pub fn new(limit: Option<u64>) -> Self {
        Self { begun: Instant::now(), limit, done: AtomicU64::new(0) }
    }

    /// Sleeps until so many more bytes are due, or nobody wants them any more.
    pub fn step(&self, bytes: u64, wanted: impl Fn() -> bool) {
        let Some(limit) = self.limit else { return };
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let due = Duration::try_from_secs_f64(done as f64 / limit.max(1) as f64).unwrap_or(Duration::MAX);
        while let Some(wait) = due.checked_sub(self.begun.elapsed()).filter(|_| wanted()) {
            std::thread::sleep(wait.min(Duration::from_millis(200)));
        }
    }
}
