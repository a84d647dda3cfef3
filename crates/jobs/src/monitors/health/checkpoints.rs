//! Checkpoints that were asked for by the amount of WAL, against those that came by time (check_postgres: checkpoint;
//! the counters have other names from PostgreSQL 17 on).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Rates, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    metric::Metric,
    options,
};

options! {
    /// Alerts when most checkpoints happen because `max_wal_size` is reached rather than by time.
    pub struct Checkpoints {
        /// Warns when, since the last check, more checkpoints happened for that reason than by time, and at least this many.
        minimum: u32 = "3";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    timed: i64,
    requested: i64,
}

#[async_trait]
impl Monitor for Checkpoints {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "11 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "log_checkpoints and checkpoint_warning of PostgreSQL, by delta within the hour",
        queries: &[
            Query { what: "read pg_stat_bgwriter", sql: include_str!("checkpoints.sql") },
            Query { what: "read pg_stat_checkpointer", sql: include_str!("checkpoints_17.sql") },
        ],
    };
    type Sample = Sample;
    type Memory = Rates;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let query = usize::from(session.major().await? >= 17);
        session.row(&Self::FACTS.queries[query]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Rates, baseline: &Baseline) -> Verdict {
        let rates = memory.advance(baseline.now, [("timed", sample.timed), ("requested", sample.requested)]);
        let grown = |name: &str| rates.get(name).map_or(0, |rate| rate.grown);
        let (timed, requested) = (grown("timed"), grown("requested"));
        let mut verdict =
            Verdict::of(format!("{timed} checkpoints by time and {requested} on request since the last check"));
        verdict.measure(Metric::new("postgres_checkpoints_timed_total", sample.timed as f64));
        verdict.measure(Metric::new("postgres_checkpoints_requested_total", sample.requested as f64));
        let many = requested >= i64::from(self.minimum) && requested > timed;
        let severity = if many { Severity::Warning } else { Severity::Ok };
        verdict.find(
            Finding::new(
                severity,
                "checkpoints",
                format!("{requested} checkpoints happened on request and {timed} by time"),
            )
            .meaning(
                "Each one writes all that changed, and makes the changes that follow log whole pages: more WAL, and less speed.",
            )
            .advice("Raise max_wal_size until they happen by time, as far as the time for recovery allows."),
        );
        verdict
    }
}
