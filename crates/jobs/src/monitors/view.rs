//! What a verdict knows beside its sample: the time, and what is wrong already.
//!
//! An alert that is open ends only when its figure is below the limit by a margin: one that moves about its limit is one
//! alert, and not many.

use chrono::{DateTime, Utc};
use pgbosun_core::finding::Severity;
use std::collections::BTreeMap;

/// The time, and the open alerts of this monitor.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// When it was looked.
    pub now: DateTime<Utc>,
    /// How bad each object is known to be.
    pub open: BTreeMap<String, Severity>,
    /// By which share of the limit a figure must be better than it before an open alert ends, percent.
    pub margin: u8,
}

impl View {
    /// How bad an object is known to be.
    pub fn was(&self, object: &str) -> Severity {
        self.open.get(object).copied().unwrap_or(Severity::Ok)
    }

    /// How bad it is that a figure is above its limits.
    pub fn above(&self, object: &str, value: f64, warning: f64, critical: f64) -> Severity {
        self.judge(object, warning, critical, |limit, margin| value > limit * (1.0 - margin))
    }

    /// How bad it is that a figure is below its limits.
    pub fn below(&self, object: &str, value: f64, warning: f64, critical: f64) -> Severity {
        self.judge(object, warning, critical, |limit, margin| value < limit * (1.0 + margin))
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
        let view = |was| View { open: BTreeMap::from([("x".to_owned(), was)]), margin: 5, ..View::default() };
        let above = |was, value| view(was).above("x", value, 80.0, 90.0);
        assert_eq!(above(Severity::Ok, 80.0), Severity::Ok);
        assert_eq!(above(Severity::Ok, 80.1), Severity::Warning);
        assert_eq!(above(Severity::Warning, 77.0), Severity::Warning);
        assert_eq!(above(Severity::Warning, 76.0), Severity::Ok);
        assert_eq!(above(Severity::Warning, 89.0), Severity::Warning, "it gets worse at the limit itself");
        assert_eq!(above(Severity::Critical, 86.0), Severity::Critical);
        assert_eq!(above(Severity::Critical, 85.0), Severity::Warning);
        assert_eq!(view(Severity::Warning).below("x", 10.2, 10.0, 5.0), Severity::Warning);
        assert_eq!(view(Severity::Ok).below("x", 10.2, 10.0, 5.0), Severity::Ok);
        assert_eq!(view(Severity::Ok).above("y", 81.0, 80.0, 90.0), Severity::Warning, "each object by itself");
    }
}
