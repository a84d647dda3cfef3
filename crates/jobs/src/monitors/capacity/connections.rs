//! How many connections are used (check_pgactivity: backends, 90 and 95 %; those reserved count as taken).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, metric::Metric, options};

options! {
    /// Alerts when nearly all connections available to ordinary users are in use.
    pub struct Connections {
        /// Warns above this share, percent.
        warning_percent: u8 = "80";
        /// Critical above this share, percent.
        critical_percent: u8 = "95";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    used: i64,
    maximum: i64,
    reserved: i64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    most: String,
}

#[async_trait]
impl Monitor for Connections {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity backends, check_postgres backends",
        queries: &[Query { what: "count the connections", sql: include_str!("connections.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let ordinary = (sample.maximum - sample.reserved).max(1);
        let percent = 100.0 * sample.used as f64 / ordinary as f64;
        let told = format!("{} of {ordinary} connections are in use ({percent:.0} %)", sample.used);
        let mut verdict = Verdict::of(&told);
        verdict.measure(Metric::new("postgres_connections", sample.used as f64));
        verdict.measure(Metric::new("postgres_connections_limit", ordinary as f64));
        let severity =
            baseline.above("connections", percent, self.warning_percent.into(), self.critical_percent.into());
        verdict.find(
            Finding::new(severity, "connections", told)
                .meaning("When none is left, applications are refused; only superusers still get in.")
                .advice("See below who holds them. A pooler (PgBouncer) needs fewer; raising max_connections costs memory and a restart.")
                .detail(&sample.most),
        );
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn reserved_ones_are_not_to_be_had() {
        let monitor = Connections { warning_percent: 80, critical_percent: 95 };
        let check = |used| {
            let sample = Sample { used, maximum: 103, reserved: 3, most: String::new() };
            monitor.verdict(&sample, &mut (), &Baseline::default()).findings.first().map(|finding| finding.severity)
        };
        assert_eq!([check(80), check(81), check(96)], [None, Some(Severity::Warning), Some(Severity::Critical)]);
    }
}
