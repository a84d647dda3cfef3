//! How much is written to temporary files (check_pgactivity: temp_files, by delta).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Rate, Rates, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, human, metric::Metric, options};

options! {
    /// Alerts when queries write a lot to temporary files: sorts and hashes that do not fit into `work_mem`.
    pub struct TempBytes {
        /// Warns when more than this is written per hour in one database.
        warning_per_hour: ByteSize = "\"50GiB\"";
        /// Critical above this.
        critical_per_hour: ByteSize = "\"200GiB\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    files: i64,
    bytes: i64,
}

#[async_trait]
impl Monitor for TempBytes {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity temp_files",
        queries: &[Query { what: "read pg_stat_database", sql: include_str!("temp_bytes.sql") }],
    };
    type Sample = Vec<Database>;
    type Memory = Rates;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Rates, baseline: &Baseline) -> Verdict {
        let counters = sample.iter().map(|database| (database.name.as_str(), database.bytes));
        let rates = memory.advance(baseline.now, counters);
        let mut verdict = Verdict::of(match rates.values().map(Rate::per_hour).reduce(f64::max) {
            Some(most) => format!("at most {} per hour in one database", human::size(most as u64)),
            None => "nothing to compare with yet".into(),
        });
        for Database { name, files, bytes } in sample {
            verdict.measure(Metric::new("postgres_temp_bytes_total", *bytes as f64).of("database", name));
            let Some(rate) = rates.get(name) else { continue };
            let hourly = rate.per_hour();
            let (warning, critical) = (self.warning_per_hour.as_u64(), self.critical_per_hour.as_u64());
            let severity = baseline.above(name, hourly, warning as f64, critical as f64);
            let told = human::size(hourly as u64);
            verdict.find(
                Finding::new(severity, name, format!("queries in {name} write {told} of temporary files per hour"))
                    .meaning("Such queries are slow, wear out the disk, and may fill it.")
                    .advice("log_temp_files = 0 shows which queries do it; an index, or more work_mem for them, helps.")
                    .detail(
                        Detail::new()
                            .fact("files so far", files)
                            .fact("bytes so far", human::size(bytes.unsigned_abs())),
                    ),
            );
        }
        verdict
    }
}
