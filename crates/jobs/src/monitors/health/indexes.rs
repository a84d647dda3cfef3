//! Indexes that are maintained and never used, since building them broke off (check_pgactivity: invalid_indexes).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict, by_database},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};

options! {
    /// Alerts when indexes are invalid: building them concurrently failed.
    pub struct InvalidIndexes {
        /// Indexes that may be invalid, as `schema.index`.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct Index {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    table: String,
    bytes: i64,
}

fn indexes(count: usize) -> String {
    if count == 1 { "1 invalid index".to_owned() } else { format!("{count} invalid indexes") }
}

#[async_trait]
impl Monitor for InvalidIndexes {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "13 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity invalid_indexes",
        queries: &[Query { what: "look for invalid indexes", sql: include_str!("indexes.sql") }],
    };
    type Sample = Vec<(String, Index)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.everywhere(&Self::FACTS.queries[0], &[]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let mut verdict = by_database(
            sample,
            |(_, index)| !self.ignore.contains(&index.name),
            |database, invalid| {
                let rows = invalid.iter().map(|(_, index)| {
                    let size = human::size(index.bytes.unsigned_abs());
                    [Value::of(&index.name), Value::of(&index.table), Value::of(size)]
                });
                Finding::new(Severity::Warning, database, format!("{} in {database}", indexes(invalid.len())))
                .meaning("They slow down every write and help no query; a constraint that depends on one does not hold.")
                .advice("DROP INDEX CONCURRENTLY, then create them again; those named _ccnew or _ccold are left over from REINDEX.")
                .detail(Detail::new().table(["index", "table", "size"], rows))
            },
        );
        verdict.summary = indexes(sample.len());
        verdict.measure(Metric::new("postgres_invalid_indexes", sample.len() as f64));
        verdict
    }
}
