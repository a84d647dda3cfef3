//! How large tablespaces are (check_postgres: tablespace sizes). What is left on their file systems is told by monitor.disk.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, human, metric::Metric, options};

options! {
    /// Measures tablespaces, and alerts when one is larger than it may be. A tablespace whose directory is unavailable, such as
    /// on a disk that is not mounted, cannot be measured, and that is reported.
    pub struct Tablespaces {
        /// Warns when a tablespace is larger than this; without it, they are only measured.
        warning_size: Option<ByteSize>;
    }
}

#[derive(sqlx::FromRow)]
pub struct Tablespace {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    location: String,
    bytes: i64,
}

#[async_trait]
impl Monitor for Tablespaces {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "8 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres database_size, by tablespace",
        queries: &[Query { what: "measure the tablespaces", sql: include_str!("tablespaces.sql") }],
    };
    type Sample = Vec<Tablespace>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let told = |bytes: i64| human::size(bytes.unsigned_abs());
        let total: i64 = sample.iter().map(|tablespace| tablespace.bytes).sum();
        let mut verdict = Verdict::of(format!("{} of {}", human::count(sample.len(), "tablespace"), told(total)));
        for Tablespace { name, location, bytes } in sample {
            verdict.measure(Metric::new("postgres_tablespace_size_bytes", *bytes as f64).of("tablespace", name));
            let Some(limit) = self.warning_size.map(|limit| limit.as_u64()) else { continue };
            let severity = baseline.above(name, *bytes as f64, limit as f64, f64::INFINITY);
            let summary = format!("tablespace {name} is {} (limit {})", told(*bytes), human::size(limit));
            verdict.find(
                Finding::new(severity, name, summary)
                    .meaning("It takes up more of its disk than was planned.")
                    .advice("Move tables and indexes to another one, or give it more room.")
                    .detail(Detail::new().fact("location", location)),
            );
        }
        verdict
    }
}
