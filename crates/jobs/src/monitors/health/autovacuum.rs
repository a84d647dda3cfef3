//! Autovacuum that is off, or has no worker to spare (check_pgactivity: autovacuum).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::time::Duration;

options! {
    /// Alerts when autovacuum is off, or all its workers are busy for a long time.
    pub struct Autovacuum {
        /// Warns when no worker has been free for this long.
        saturated: Duration = "\"2h\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    workers: i64,
    maximum: i64,
    enabled: bool,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    work: String,
}

#[async_trait]
impl Monitor for Autovacuum {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity autovacuum",
        queries: &[Query { what: "list the autovacuum workers", sql: include_str!("autovacuum.sql") }],
    };
    type Sample = Sample;
    /// Since when no worker was free.
    type Memory = Option<DateTime<Utc>>;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Self::Memory, baseline: &Baseline) -> Verdict {
        let mut verdict = Verdict::of(format!("{} of {} workers are busy", sample.workers, sample.maximum));
        verdict.measure(Metric::new("postgres_autovacuum_workers", sample.workers as f64));
        if !sample.enabled {
            verdict.find(
                Finding::new(Severity::Critical, "autovacuum", "autovacuum is off")
                    .meaning("Tables bloat, statistics go stale, and in the end the server refuses writes.")
                    .advice("Set autovacuum = on and track_counts = on, then select pg_reload_conf()."),
            );
        }
        *memory = if sample.workers >= sample.maximum { Some(memory.unwrap_or(baseline.now)) } else { None };
        let busy = memory.map_or(chrono::Duration::zero(), |since| baseline.now - since);
        if busy.to_std().unwrap_or_default() >= self.saturated && !self.saturated.is_zero() {
            verdict.find(
                Finding::new(Severity::Warning, "workers", format!("all autovacuum workers ({}) have been busy for {}", sample.maximum, human::span(busy)))
                    .meaning("Other tables wait for vacuum meanwhile.")
                    .advice("Let vacuum work faster (autovacuum_vacuum_cost_limit) before giving it more workers: they share the limit.")
                    .detail(&sample.work),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_for_long_and_off() {
        let monitor = Autovacuum { saturated: Duration::from_secs(3600) };
        let mut memory = None;
        let mut check = |workers, enabled, minute: i64| {
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            let sample = Sample { workers, maximum: 3, enabled, work: String::new() };
            monitor.verdict(&sample, &mut memory, &baseline).findings.first().map(|finding| finding.object.clone())
        };
        assert_eq!(
            [check(3, true, 0), check(3, true, 59), check(2, true, 61), check(3, true, 65)],
            [None, None, None, None]
        );
        assert_eq!(check(3, true, 125).as_deref(), Some("workers"));
        assert_eq!(check(0, false, 130).as_deref(), Some("autovacuum"));
    }
}
