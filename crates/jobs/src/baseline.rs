//! What a verdict knows beside its sample: the time, and what is wrong already.
//!
//! An alert that is open ends only when its metric is below the limit by a margin: one that moves about its limit is one
//! alert, and not many.

use chrono::{DateTime, Utc};
use pgbosun_core::finding::Severity;
use std::collections::BTreeMap;

/// The time, and the open alerts of this monitor.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// When it was checked.
    pub now: DateTime<Utc>,
    /// How bad each object is known to be.
    pub open: BTreeMap<String, Severity>,
    /// By which share of the limit a metric must be better than it before an open alert ends, percent.
    pub margin: u8,
}

impl Baseline {
    /// How bad an object is known to be.
    pub fn was(&self, object: &str) -> Severity {
        self.open.get(object).copied().unwrap_or(Severity::Ok)
    }

    /// How bad it is that a metric is above its limits.
    pub fn above(&self, object: &str, value: f64, warning: f64, critical: f64) -> Severity {
        self.judge(object, warning, critical, |limit, margin| value > limit - limit.abs() * margin)
    }

    /// How bad it is that a metric is below its limits.
    pub fn below(&self, object: &str, value: f64, warning: f64, critical: f64) -> Severity {
        self.judge(object, warning, critical, |limit, margin| value < limit + limit.abs() * margin)
    }

    /// How bad it is that a share is below its limits, percent: half of the way from there to 100 ends an alert too.
    pub fn below_percent(&self, object: &str, percent: f64, warning: f64, critical: f64) -> Severity {
        let leave = |limit: f64, margin: f64| (limit * (1.0 + margin)).min(f64::midpoint(limit, 100.0)).max(limit);
        self.judge(object, warning, critical, |limit, margin| percent < leave(limit, margin))
    }

    fn judge(&self, object: &str, warning: f64, critical: f64, beyond: impl Fn(f64, f64) -> bool) -> Severity {
        let was = self.was(object);
        let holds = |limit, severity| beyond(limit, if was >= severity { f64::from(self.margin) / 100.0 } else { 0.0 });
        if holds(critical, Severity::Critical) {
            Severity::Critical
        } else if holds(warning, Severity::Warning) {
            Severity::Warning
        } else {
            Severity::Ok
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_ends_below_its_limit_by_the_margin() {
        let baseline =
            |was| Baseline { open: BTreeMap::from([("x".to_owned(), was)]), margin: 5, ..Baseline::default() };
        let above = |was, value| baseline(was).above("x", value, 80.0, 90.0);
        assert_eq!(above(Severity::Ok, 80.0), Severity::Ok);
        assert_eq!(above(Severity::Ok, 80.1), Severity::Warning);
        assert_eq!(above(Severity::Warning, 77.0), Severity::Warning);
        assert_eq!(above(Severity::Warning, 76.0), Severity::Ok);
        assert_eq!(above(Severity::Warning, 89.0), Severity::Warning, "it gets worse at the limit itself");
        assert_eq!(above(Severity::Critical, 86.0), Severity::Critical);
        assert_eq!(above(Severity::Critical, 85.0), Severity::Warning);
        assert_eq!(baseline(Severity::Warning).below("x", 10.2, 10.0, 5.0), Severity::Warning);
        assert_eq!(baseline(Severity::Ok).below("x", 10.2, 10.0, 5.0), Severity::Ok);
        assert_eq!(baseline(Severity::Ok).above("y", 81.0, 80.0, 90.0), Severity::Warning, "each object by itself");
        let share = |was, value| baseline(was).below_percent("x", value, 96.0, 50.0);
        assert_eq!(share(Severity::Ok, 96.0), Severity::Ok);
        assert_eq!(share(Severity::Warning, 97.9), Severity::Warning);
        assert_eq!(share(Severity::Warning, 98.0), Severity::Ok, "96 and five percent of it would be beyond reach");
        assert_eq!(share(Severity::Critical, 52.0), Severity::Critical);
        assert_eq!(baseline(Severity::Warning).below_percent("x", 100.0, 101.0, 50.0), Severity::Warning);
    }
}
