//! How the measured recovery time develops: a line through the last tests (ordinary least squares).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Tests that are compared.
const KEPT: usize = 24;
/// Fewer are no trend.
const FEWEST: usize = 4;

/// The last tests: when, and how long in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Trend(Vec<(DateTime<Utc>, f64)>);

impl Trend {
    /// From what the last run left.
    pub fn read(state: Option<&serde_json::Value>) -> Self {
        state.and_then(|state| serde_json::from_value(state.clone()).ok()).unwrap_or_default()
    }

    /// With one more test.
    pub fn with(mut self, at: DateTime<Utc>, took: Duration) -> Self {
        self.0.push((at, took.as_secs_f64()));
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
        self
    }

    /// For the next run.
    pub fn state(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Days from the last test until the line reaches a limit; `None` where it does not rise, or is no line yet.
    pub fn days_until(&self, limit: Duration) -> Option<f64> {
        let last = self.0.last()?.0;
        if self.0.len() < FEWEST {
            return None;
        }
        let points: Vec<(f64, f64)> =
            self.0.iter().map(|(at, took)| ((*at - last).as_seconds_f64() / 86400.0, *took)).collect();
        let count = points.len() as f64;
        let (mean_x, mean_y) =
            (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
        let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        let slope = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / spread;
        let now = mean_y - slope * mean_x;
        (slope.is_finite() && slope > 0.0).then(|| ((limit.as_secs_f64() - now) / slope).max(0.0))
    }

    /// In words.
    pub fn told(&self) -> String {
        let lines = self.0.iter().map(|(at, took)| format!("{}: {took:.0} s", at.format("%Y-%m-%d")));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_line_reaches_the_objective_and_a_flat_one_does_not() {
        let start: DateTime<Utc> = "2026-10-01T06:00:00Z".parse().unwrap();
        let week = |n: i64| start + chrono::TimeDelta::days(7 * n);
        let rising = (0..5).fold(Trend::default(), |t, n| t.with(week(n), Duration::from_secs(600 + 70 * n as u64)));
        let days = rising.days_until(Duration::from_secs(1000)).unwrap();
        assert!((days - 12.0).abs() < 0.01, "{days}");
        let flat = (0..5).fold(Trend::default(), |t, n| t.with(week(n), Duration::from_secs(600)));
        assert_eq!(flat.days_until(Duration::from_secs(1000)), None);
        assert_eq!(Trend::read(Some(&rising.state())).0.len(), 5);
        let few = Trend::default().with(week(0), Duration::from_secs(1)).with(week(1), Duration::from_secs(9));
        assert_eq!(few.days_until(Duration::from_secs(10)), None);
    }
}
