//! Autovacuum that is off, or has no worker to spare (check_pgactivity: autovacuum).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Verdict, View},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    figure::Figure,
    finding::{Finding, Severity},
    human, options,
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
    const FACTS: Facts = Facts {
        every: "*/5 * * * *",
        group: "database",
        looks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity autovacuum",
        queries: &[Query { what: "list the autovacuum workers", sql: include_str!("autovacuum.sql") }],
    };
    type Sample = Sample;
    /// Since when no worker was free.
    type Memory = Option<DateTime<Utc>>;

    async fn sample(&self, look: &mut Look<'_>) -> Result<Sample, JobError> {
        look.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Self::Memory, view: &View) -> Verdict {
        let mut verdict = Verdict::of(format!("{} of {} workers are busy", sample.workers, sample.maximum));
        verdict.measure(Figure::new("postgres_autovacuum_workers", sample.workers as f64));
        if !sample.enabled {
            verdict.find(
                Finding::new(Severity::Critical, "autovacuum", "autovacuum is off")
                    .meaning("Tables bloat, statistics go stale, and in the end the server refuses writes.")
                    .advice("Set autovacuum = on and track_counts = on, then select pg_reload_conf()."),
            );
        }
        *memory = if sample.workers >= sample.maximum { Some(memory.unwrap_or(view.now)) } else { None };
        let busy = memory.map_or(chrono::Duration::zero(), |since| view.now - since);
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
        let mut look = |workers, enabled, minute: i64| {
            let view = View { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..View::default() };
            let sample = Sample { workers, maximum: 3, enabled, work: String::new() };
            monitor.verdict(&sample, &mut memory, &view).findings.first().map(|finding| finding.object.clone())
        };
        assert_eq!(
            [look(3, true, 0), look(3, true, 59), look(2, true, 61), look(3, true, 65)],
            [None, None, None, None]
        );
        assert_eq!(look(3, true, 125).as_deref(), Some("workers"));
        assert_eq!(look(0, false, 130).as_deref(), Some("autovacuum"));
    }
}
