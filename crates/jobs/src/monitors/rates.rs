//! From counters that only grow to how fast they do, over restarts and resets, after which they begin anew.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The counters of the last check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    at: Option<DateTime<Utc>>,
    counters: BTreeMap<String, i64>,
}

/// How a counter grew since the last check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// By how much.
    pub grown: i64,
    /// The time between the checks, seconds.
    pub seconds: f64,
    /// By how much a second.
    pub per_second: f64,
}

impl Rate {
    /// By how much an hour. What was counted within less than a minute is taken for what the minute brought: two checks
    /// that follow each other closely (by hand, after a failure) say nothing about an hour.
    pub fn per_hour(&self) -> f64 {
        self.grown as f64 / self.seconds.max(60.0) * 3600.0
    }
}

impl Rates {
    /// Takes over the counters of this check. One that was not there, or is smaller than it was, has no rate.
    pub fn advance<'a>(
        &mut self,
        now: DateTime<Utc>,
        counters: impl IntoIterator<Item = (&'a str, i64)>,
    ) -> BTreeMap<String, Rate> {
        let seconds = self.at.map(|at| (now - at).as_seconds_f64());
        // Too soon to say anything: what was counted then stays, so that nothing is lost to the next check.
        if seconds.is_some_and(|seconds| (0.0..1.0).contains(&seconds)) {
            return BTreeMap::new();
        }
        let before = std::mem::take(&mut self.counters);
        self.counters = counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.at = Some(now);
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let Some(seconds) = seconds else { return BTreeMap::new() };
        let grown = self.counters.iter().filter_map(|(name, value)| {
            let grown = value - before.get(name)?;
            (grown >= 0).then(|| (name.clone(), Rate { grown, seconds, per_second: grown as f64 / seconds }))
        });
        grown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let mut rates = Rates::default();
        let at = |seconds: i64| DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds);
        assert!(rates.advance(at(0), [("a", 100)]).is_empty());
        let grown = rates.advance(at(10), [("a", 150), ("b", 7)]);
        assert_eq!(grown, BTreeMap::from([("a".to_owned(), Rate { grown: 50, seconds: 10.0, per_second: 5.0 })]));
        assert!(rates.advance(at(20), [("a", 10)]).is_empty(), "a restart");
        assert_eq!(rates.advance(at(30), [("a", 30)])["a"].grown, 20);
        assert!(rates.advance(at(30), [("a", 40)]).is_empty(), "too soon");
        assert_eq!(rates.advance(at(40), [("a", 50)])["a"].grown, 20, "and not lost");
    }

    #[test]
    fn seconds_are_no_measure_of_an_hour() {
        let mut rates = Rates::default();
        let at = |seconds: i64| DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds);
        rates.advance(at(0), [("a", 0)]);
        assert_eq!(rates.advance(at(2), [("a", 10)])["a"].per_hour(), 600.0, "ten in this minute");
        assert_eq!(rates.advance(at(302), [("a", 20)])["a"].per_hour(), 120.0);
    }
}
