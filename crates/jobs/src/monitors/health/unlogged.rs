//! Tables that are empty after a crash and in every backup (check_pgactivity: table_unlogged).

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
    /// Alerts when there are unlogged tables: they are in no backup and on no standby, and are emptied after a crash.
    pub struct Unlogged {
        /// Tables that may be unlogged, as `schema.table`.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct UnloggedTable {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    bytes: i64,
}

#[async_trait]
impl Monitor for Unlogged {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "31 6 * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity table_unlogged",
        queries: &[Query { what: "look for unlogged tables", sql: include_str!("unlogged.sql") }],
    };
    type Sample = Vec<(String, UnloggedTable)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.everywhere(&Self::FACTS.queries[0], &[]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let mut verdict = by_database(
            sample,
            |(_, table)| !self.ignore.contains(&table.name),
            |database, tables| {
                let size = |table: &UnloggedTable| Value::of(human::size(table.bytes.unsigned_abs()));
                let rows = tables.iter().map(|(_, table)| [Value::of(&table.name), size(table)]);
                Finding::new(
                    Severity::Warning,
                    database,
                    format!("{} in {database}", human::count(tables.len(), "unlogged table")),
                )
                .meaning("Their rows are in no backup and on no standby, and after a crash they are gone.")
                .advice("ALTER TABLE … SET LOGGED, or name them under ignore if they may be lost.")
                .detail(Detail::new().table(["table", "size"], rows))
            },
        );
        verdict.summary = human::count(sample.len(), "unlogged table");
        verdict.measure(Metric::new("postgres_unlogged_tables", sample.len() as f64));
        verdict
    }
}
