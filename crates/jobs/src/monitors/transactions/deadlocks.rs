//! Deadlocks that the server had to end (`pg_stat_database.deadlocks`, by delta).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Rates, Verdict},
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
use serde::{Deserialize, Serialize};
use std::time::Duration;

options! {
    /// Alerts when the server had to break deadlocks.
    pub struct Deadlocks {
        /// Warns at this many in one database within the window.
        warning: u32 = "1";
        /// The window.
        window: Duration = "\"1h\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    deadlocks: i64,
}

/// The counters, and what came lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    rates: Rates,
    recent: Vec<(DateTime<Utc>, String, i64)>,
}

#[async_trait]
impl Monitor for Deadlocks {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "pg_stat_database.deadlocks, by delta",
        queries: &[Query { what: "count the deadlocks", sql: include_str!("deadlocks.sql") }],
    };
    type Sample = Vec<Database>;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let counters = sample.iter().map(|database| (database.name.as_str(), database.deadlocks));
        let grown = memory.rates.advance(baseline.now, counters);
        memory.recent.extend(
            grown.into_iter().filter(|(_, rate)| rate.grown > 0).map(|(name, rate)| (baseline.now, name, rate.grown)),
        );
        let window = chrono::Duration::from_std(self.window).unwrap_or_default();
        memory.recent.retain(|(at, ..)| baseline.now - *at < window);
        let all: i64 = memory.recent.iter().map(|(.., count)| count).sum();
        let told = human::duration(self.window);
        let mut verdict = Verdict::of(format!("{} within {told}", human::count(all, "deadlock")));
        for Database { name, deadlocks } in sample {
            verdict.measure(Metric::new("postgres_deadlocks_total", *deadlocks as f64).of("database", name));
            let count: i64 = memory.recent.iter().filter(|(_, of, _)| of == name).map(|(.., count)| count).sum();
            if count > 0 && count >= i64::from(self.warning) {
                verdict.find(
                    Finding::new(Severity::Warning, name, format!("{} in {name} within {told}", human::count(count, "deadlock")))
                        .meaning("Each time, one of the transactions was rolled back, and its application got an error.")
                        .advice("The server's log has both statements of each. Have all transactions lock their rows in the same order."),
                );
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_for_the_window_and_not_for_what_was_before() {
        let monitor = Deadlocks { warning: 2, window: Duration::from_secs(3600) };
        let mut memory = Memory::default();
        let mut check = |deadlocks, minute: i64| {
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            monitor.verdict(&vec![Database { name: "app".into(), deadlocks }], &mut memory, &baseline).findings.len()
        };
        assert_eq!(
            [check(7, 0), check(8, 5), check(9, 10), check(9, 64), check(9, 65), check(0, 70)],
            [0, 0, 1, 1, 0, 0]
        );
    }
}
