//! Reads that may hang: one at a time of each, however many ask, and its answer serves for a while.
//!
//! Invariant: a mount that hangs blocks a thread until it comes back, whoever has given up waiting; so nobody begins a read again before
//! the last one has ended.

use pgbosun_core::config::Config;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};

/// Reads by name.
#[derive(Debug)]
pub(crate) struct Reads<T, C = Config> {
    patience: Duration,
    serves: Duration,
    slots: Mutex<HashMap<String, Slot<T, C>>>,
}

/// The newest read of a name: at work while there is no answer.
#[derive(Debug)]
struct Slot<T, C> {
    config: Arc<C>,
    begun: Instant,
    answer: watch::Receiver<Option<T>>,
}

impl<T, C> Slot<T, C> {
    fn is_at_work(&self) -> bool {
        // One that panicked has left.
        self.answer.borrow().is_none() && self.answer.has_changed().is_ok()
    }
}

impl<T: Clone + Send + Sync + 'static, C> Reads<T, C> {
    /// Whoever asks waits for so long since the read began; its answer serves for so long.
    pub fn new(patience: Duration, serves: Duration) -> Self {
        Self { patience, serves, slots: Mutex::default() }
    }

    /// The answer; `None` where it does not come in time. `read` is begun where no read of this configuration is at work, and none
    /// has an answer that serves.
    pub async fn ask<F>(&self, bulk: &Handle, config: &Arc<C>, name: &str, read: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (mut answer, begun) = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let serves = |slot: &&Slot<T, C>| {
                let answered = slot.answer.borrow().is_some() && slot.begun.elapsed() < self.serves;
                Arc::ptr_eq(&slot.config, config) && (answered || slot.is_at_work())
            };
            match slots.get(name).filter(serves) {
                Some(slot) => (slot.answer.clone(), slot.begun),
                None => {
                    let (sender, answer) = watch::channel(None);
                    let (read, begun) = (read(), Instant::now());
                    bulk.spawn(async move { sender.send_replace(Some(read.await)) });
                    let slot = Slot { config: Arc::clone(config), begun, answer: answer.clone() };
                    slots.insert(name.to_owned(), slot);
                    (answer, begun)
                }
            }
        };
        let left = self.patience.saturating_sub(begun.elapsed());
        timeout(left, answer.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }

    /// Forgets an answer that is not to serve again.
    pub fn forget(&self, name: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(name).is_some_and(|slot| !slot.is_at_work()) {
            slots.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[tokio::test]
    async fn a_read_that_hangs_is_begun_once_and_an_answer_serves_for_a_while() {
        let (bulk, config) = (Handle::current(), Arc::new(1));
        let reads = Reads::new(Duration::from_secs(1), Duration::from_secs(60));
        let begun = Arc::new(AtomicU32::new(0));
        let (open, gate) = watch::channel(false);
        let ask = |config: &Arc<i32>| {
            let (begun, mut gate, config) = (Arc::clone(&begun), gate.clone(), Arc::clone(config));
            let (reads, bulk) = (&reads, bulk.clone());
            async move {
                let read = || async move {
                    begun.fetch_add(1, Relaxed);
                    let opened = gate.wait_for(|open| *open).await.is_ok();
                    (opened, begun.load(Relaxed))
                };
                reads.ask(&bulk, &config, "share", read).await
            }
        };
        for _ in 0..3 {
            assert_eq!(ask(&config).await, None);
        }
        reads.forget("share");
        assert_eq!((ask(&config).await, begun.load(Relaxed)), (None, 1), "one is at work");
        open.send_replace(true);
        let answered = async {
            while ask(&config).await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), answered).await.unwrap();
        assert_eq!((ask(&config).await, begun.load(Relaxed)), (Some((true, 1)), 1));
        // Another configuration may lead elsewhere; an answer that is forgotten serves no more.
        let other = Arc::new(2);
        assert!(ask(&other).await.is_some());
        reads.forget("share");
        assert_eq!(ask(&other).await, Some((true, 3)));
    }
}
