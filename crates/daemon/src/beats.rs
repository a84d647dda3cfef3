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

const PARTS: [Part; 5] = [Part::Alarm, Part::Scheduler, Part::Runner, Part::History, Part::Outbox];

/// Counts the beats of each part.
#[derive(Debug, Default)]
pub struct Beats([AtomicU64; PARTS.len()]);

impl Beats {
    /// This part moved, an idle turn included.
    pub fn beat(&self, part: Part) {
        self.0[part as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The parts that did not beat since the last call.
    pub fn silent(&self) -> Vec<Part> {
        PARTS.into_iter().filter(|part| self.0[*part as usize].swap(0, Ordering::Relaxed) == 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_part_is_enough() {
        let beats = Beats::default();
        PARTS.into_iter().for_each(|part| beats.beat(part));
        assert!(beats.silent().is_empty());
        PARTS.into_iter().filter(|part| *part != Part::Runner).for_each(|part| beats.beat(part));
        assert_eq!(beats.silent(), [Part::Runner]);
    }
}
