//! Who may run: places among the jobs at work, and groups of which one job is at work at a time.
//!
//! Invariants: who waits first is served first; groups are taken in one order by all, and a place last, so that no two wait for
//! each other.

use pgbosun_core::config::{Config, Job};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places and groups.
pub(crate) struct ExclusiveSlots {
    count: u32,
    places: Arc<Semaphore>,
    /// Monitors take no place: they wait for each other for the connection to their cluster, and one that hangs must not keep
    /// backups from beginning.
    free: Arc<Semaphore>,
    groups: HashMap<String, Arc<Semaphore>>,
}

/// What a run needs before it begins.
pub(crate) struct SlotClaim(Vec<Arc<Semaphore>>);

/// What it has while it is at work.
pub(crate) struct Permit(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

impl ExclusiveSlots {
    pub fn new(count: u32) -> Self {
        let free = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let mut slots = Self { count: 0, places: Arc::clone(&free), free, groups: HashMap::new() };
        slots.resize(count);
        slots
    }

    /// Running jobs keep their places in the old count; new ones are counted anew.
    pub fn resize(&mut self, count: u32) {
        let count = count.max(1);
        if count != self.count {
            (self.count, self.places) = (count, Arc::new(Semaphore::new(count as usize)));
        }
    }

    /// What a run of this job needs; one that only says what it would do is in nobody's way.
    pub fn of(&mut self, config: &Config, job: &Job, dry_run: bool) -> SlotClaim {
        let mut names = if dry_run { Vec::new() } else { config.exclusive_of(job) };
        // The wider one first: whoever waits for `main-maintenance` does not keep `main-backup` from others meanwhile.
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.dedup();
        let group = |name| Arc::clone(self.groups.entry(name).or_insert_with(|| Arc::new(Semaphore::new(1))));
        let mut claim: Vec<_> = names.into_iter().map(group).collect();
        claim.push(Arc::clone(if job.is_monitor() { &self.free } else { &self.places }));
        SlotClaim(claim)
    }
}

impl SlotClaim {
    /// The permits, where nothing is in the way.
    pub fn at_once(&self) -> Option<Permit> {
        self.0.iter().map(|needed| Arc::clone(needed).try_acquire_owned().ok()).collect::<Option<_>>().map(Permit)
    }

    /// The permits, once they are free.
    pub async fn wait(&self) -> Option<Permit> {
        let mut permit = Vec::new();
        for needed in &self.0 {
            permit.push(Arc::clone(needed).acquire_owned().await.ok()?);
        }
        Some(Permit(permit))
    }
}
