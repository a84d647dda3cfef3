//! Whether the server restarted (check_pgactivity: uptime).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::time::Duration;

options! {
    /// Reports that the server restarted: planned or not, somebody should know.
    pub struct Restart {
        /// How long a restart is reported.
        notice: Duration = "\"15m\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    started: DateTime<Utc>,
    now: DateTime<Utc>,
    loaded: DateTime<Utc>,
}

/// The start that was seen last, and when it was noticed that it was a restart: what was there at the first check is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    started: Option<DateTime<Utc>>,
    noticed: Option<DateTime<Utc>>,
}

#[async_trait]
impl Monitor for Restart {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity uptime",
        queries: &[Query { what: "ask when it started", sql: include_str!("restart.sql") }],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let up = sample.now - sample.started;
        let mut verdict = Verdict::of(format!("up for {}", human::span(up)));
        verdict.measure(Metric::new("postgres_start_time_seconds", sample.started.timestamp_millis() as f64 / 1000.0));
        // Clocks may be set a little: a start is the same within a second.
        let same = |known: DateTime<Utc>| (known - sample.started).abs() < chrono::Duration::seconds(1);
        if memory.started.is_some_and(|known| !same(known)) {
            memory.noticed = Some(baseline.now);
        }
        memory.started = Some(sample.started);
        // From when it was noticed: recovery may have taken longer than that.
        memory.noticed = memory.noticed.filter(|at| (baseline.now - *at).to_std().unwrap_or_default() < self.notice);
        if memory.noticed.is_some() {
            verdict.find(
                Finding::new(Severity::Warning, "restart", "the server restarted")
                    .meaning("All sessions were ended, and the caches are cold.")
                    .advice("If nobody restarted it on purpose, the log just before that time says why.")
                    .detail(Detail::new().time("started", sample.started).time("configuration read", sample.loaded)),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_for_a_while_and_the_first_look_tells_nothing() {
        let monitor = Restart { notice: Duration::from_secs(900) };
        let mut memory = Memory::default();
        let at = |minute: i64| DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute);
        let mut check = |started, now| {
            let sample = Sample { started: at(started), now: at(now), loaded: at(started) };
            let baseline = Baseline { now: at(now), ..Baseline::default() };
            monitor.verdict(&sample, &mut memory, &baseline).findings.len()
        };
        assert_eq!(
            [check(0, 1), check(0, 5), check(7, 10), check(7, 15), check(7, 25), check(7, 26)],
            [0, 0, 1, 1, 0, 0]
        );
        assert_eq!([check(30, 60), check(30, 76)], [1, 0], "recovery took long");
    }
}
