//! How large pg_wal is (check_pgactivity: wal_files; check_postgres: wal_files).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, human, metric::Metric, options};

options! {
    /// Alerts when `pg_wal` is much larger than the server's settings suggest: something is holding WAL back.
    pub struct WalSize {
        /// Warns above this multiple of `max_wal_size` plus `wal_keep_size`.
        warning_times: f64 = "2.0";
        /// Critical above this multiple.
        critical_times: f64 = "5.0";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    bytes: i64,
    files: i64,
    max_wal_size: i64,
    keep: i64,
}

#[async_trait]
impl Monitor for WalSize {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity wal_files; pg_ls_waldir()",
        queries: &[Query { what: "measure pg_wal", sql: include_str!("wal_size.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let told = human::size(sample.bytes.unsigned_abs());
        let expected = (sample.max_wal_size + sample.keep).max(1);
        let mut verdict = Verdict::of(format!("pg_wal holds {told} in {}", human::count(sample.files, "file")));
        verdict.measure(Metric::new("postgres_wal_directory_bytes", sample.bytes as f64));
        let times = sample.bytes as f64 / expected as f64;
        let severity = baseline.above("pg_wal", times, self.warning_times, self.critical_times);
        let expected = human::size(expected.unsigned_abs());
        verdict.find(
            Finding::new(severity, "pg_wal", format!("pg_wal holds {told}, {times:.1} times what is expected ({expected})"))
                .meaning("When its disk is full, the server stops.")
                .advice("Look for a failing archiver (pg_stat_archiver) and for a slot nobody reads (pg_replication_slots). Never delete anything in pg_wal."),
        );
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn beside_what_the_settings_let_expect() {
        let monitor = WalSize { warning_times: 2.0, critical_times: 5.0 };
        let check = |gib: i64| {
            let sample = Sample { bytes: gib << 30, files: gib * 64, max_wal_size: 1 << 30, keep: 1 << 30 };
            monitor.verdict(&sample, &mut (), &Baseline::default()).findings.first().map(|finding| finding.severity)
        };
        assert_eq!([check(4), check(5), check(11)], [None, Some(Severity::Warning), Some(Severity::Critical)]);
    }
}
