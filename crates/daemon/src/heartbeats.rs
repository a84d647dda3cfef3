//! Heartbeats: the parts of the daemon that must move for systemd's watchdog to be fed.

use std::sync::atomic::{AtomicU64, Ordering};

/// The parts that beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// tokio-cron-scheduler.
    Alarm,
    /// The loop that asks the planner.
    Scheduler,
    /// The loop that starts runs.
    Runner,
    /// The delivery of history.
    History,
    /// The delivery of messages.
    Outbox,
}

/// Every part.
const PARTS: [Part; 5] = [Part::Alarm, Part::Scheduler, Part::Runner, Part::History, Part::Outbox];

/// Counts the beats of each part.
#[derive(Debug, Default)]
pub struct Heartbeats([AtomicU64; PARTS.len()]);

impl Heartbeats {
    /// This part moved, an idle pass included.
    pub fn beat(&self, part: Part) {
        self.0[part as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Watches whether all parts move; each observer counts by itself.
#[derive(Debug, Default)]
pub struct Observer([u64; PARTS.len()]);

impl Observer {
    /// The parts that did not beat since the last call.
    pub fn silent(&mut self, heartbeats: &Heartbeats) -> Vec<Part> {
        let still = |part: &Part| {
            let (last, now) = (&mut self.0[*part as usize], heartbeats.0[*part as usize].load(Ordering::Relaxed));
            std::mem::replace(last, now) == now
        };
        PARTS.into_iter().filter(still).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_part_is_enough_and_observers_do_not_disturb_each_other() {
        let (heartbeats, mut one, mut other) = (Heartbeats::default(), Observer::default(), Observer::default());
        PARTS.into_iter().for_each(|part| heartbeats.beat(part));
        assert!(one.silent(&heartbeats).is_empty() && other.silent(&heartbeats).is_empty());
        PARTS.into_iter().filter(|part| *part != Part::Runner).for_each(|part| heartbeats.beat(part));
        assert_eq!(one.silent(&heartbeats), [Part::Runner]);
        heartbeats.beat(Part::Runner);
        assert!(other.silent(&heartbeats).is_empty());
    }
}
