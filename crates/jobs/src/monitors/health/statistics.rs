//! Tables whose statistics say little of what is in them (check_postgres: last_analyze; check_pgactivity: last_analyze).

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
use std::time::Duration;

options! {
    /// Alerts when many of a table's rows changed since it was analysed, or it never was.
    pub struct Statistics {
        /// Warns when more than this share of the rows changed, percent.
        warning_percent: f64 = "50.0";
        /// Warns when it was analysed longer ago than this, whatever changed; off by default.
        warning_age: Option<Duration>;
        /// Tables with fewer rows are ignored.
        minimum_rows: u32 = "10000";
        /// Tables to ignore, as `schema.table`.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct StaleTable {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    modified: i64,
    rows: f64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    last: String,
}

#[async_trait]
impl Monitor for Statistics {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "41 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres and check_pgactivity last_analyze, by changes, and by time where that is wanted",
        queries: &[Query { what: "read the age of statistics", sql: include_str!("statistics.sql") }],
    };
    type Sample = Vec<(String, StaleTable)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let age = self.warning_age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        session.everywhere(&Self::FACTS.queries[0], &[f64::from(self.minimum_rows), self.warning_percent, age]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let mut verdict = by_database(
            sample,
            |(_, table)| !self.ignore.contains(&table.name),
            |database, tables| {
                let rows = tables.iter().map(|(_, table)| {
                    let all = format!("{:.0}", table.rows);
                    [Value::of(&table.name), Value::of(table.modified), Value::of(all), Value::of(&table.last)]
                });
                Finding::new(Severity::Warning, database, format!("{} in {database} with stale statistics", human::count(tables.len(), "table")))
                .meaning("The planner guesses, and may choose a plan that is slow by orders of magnitude.")
                .advice("ANALYZE them; if they are listed again tomorrow, autovacuum does not get round to them: lower autovacuum_analyze_scale_factor for them.")
                .detail(Detail::new().table(["table", "rows changed", "rows (estimate)", "last analyze"], rows))
            },
        );
        verdict.summary = format!("{} with stale statistics", human::count(sample.len(), "table"));
        verdict.measure(Metric::new("postgres_tables_with_old_statistics", sample.len() as f64));
        verdict
    }
}
