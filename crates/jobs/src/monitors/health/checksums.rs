//! Pages whose checksum was wrong when they were read (check_pgactivity: checksum_errors; critical by nature).

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
    /// Alerts when the server read a page whose checksum was wrong: critical, at the first check.
    pub struct Checksums {
        /// How long after the last failure it is reported.
        notice: Duration = "\"7d\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    failures: i64,
    last: Option<DateTime<Utc>>,
}

#[async_trait]
impl Monitor for Checksums {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity checksum_errors",
        queries: &[Query { what: "count checksum failures", sql: include_str!("checksums.sql") }],
    };
    type Sample = Vec<Database>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let all: i64 = sample.iter().map(|database| database.failures).sum();
        let mut verdict = Verdict::of(human::count(all, "checksum failure"));
        let notice = chrono::Duration::from_std(self.notice).unwrap_or_default();
        for Database { name, failures, last } in sample {
            verdict.measure(Metric::new("postgres_checksum_failures_total", *failures as f64).of("database", name));
            let Some(last) = last.filter(|last| *failures > 0 && baseline.now - *last < notice) else { continue };
            verdict.find(
                Finding::new(Severity::Critical, name, format!("{} of {name} had a wrong checksum", human::count(*failures, "page")))
                    .meaning("Data on the disk is damaged; more of it may be.")
                    .advice("Keep the existing backups. The log names the file and block. Check disk and memory, then restore a copy and compare.")
                    .detail(Detail::new().time("last", last)),
            );
        }
        verdict
    }
}
