//! Tables that vacuum does not come round to (check_postgres: autovac_freeze, last_vacuum, by need instead of by time).

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
    /// Alerts when a table has many more dead rows than its settings allow, or is older than the age at which it should have
    /// been frozen: autovacuum does not get round to it, or cannot remove the dead rows. TOAST tables count separately, and
    /// temporary tables by their age.
    pub struct Vacuum {
        /// Warns at this multiple of the number of dead rows at which autovacuum starts …
        warning_factor: f64 = "3.0";
        /// … and at least this many.
        minimum_dead: u32 = "10000";
        /// Warns above this share of the age at which autovacuum starts to freeze, percent.
        warning_age_percent: f64 = "120.0";
        /// Tables to ignore, as `schema.table`.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct DirtyTable {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    dead: f64,
    threshold: f64,
    age: f64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    last: String,
}

#[async_trait]
impl Monitor for Vacuum {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "47 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres autovac_freeze and last_autovacuum; the thresholds of autovacuum itself",
        queries: &[Query { what: "look for tables that need vacuum", sql: include_str!("vacuum.sql") }],
    };
    type Sample = Vec<(String, DirtyTable)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let limits = [self.warning_factor, f64::from(self.minimum_dead), self.warning_age_percent];
        session.everywhere(&Self::FACTS.queries[0], &limits).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let mut verdict = by_database(
            sample,
            |(_, table)| !self.ignore.iter().any(|name| *name == table.name.trim_end_matches(" (its TOAST)")),
            |database, tables| {
                let rows = tables.iter().map(|(_, DirtyTable { name, dead, threshold, age, last })| {
                    [
                        Value::of(name),
                        Value::of(format!("{dead:.0}")),
                        Value::of(format!("{threshold:.0}")),
                        Value::of(format!("{:.0} %", age * 100.0)),
                        Value::of(last),
                    ]
                });
                let head = ["table", "dead rows", "vacuum due at", "% of freeze age", "last vacuum"];
                Finding::new(Severity::Warning, database, format!("{} in {database} overdue for vacuum", human::count(tables.len(), "table")))
                .meaning("They grow, and queries have to read dead rows; rows that are not frozen in time stop all writes in the end.")
                .advice("Run VACUUM (VERBOSE) on one: if it cannot remove dead rows, monitor.xid-age names who holds it back. Otherwise make autovacuum faster (autovacuum_vacuum_cost_limit). An old temporary table (pg_temp_…) goes away with its session: end that.")
                .detail(Detail::new().table(head, rows))
            },
        );
        verdict.summary = format!("{} overdue for vacuum", human::count(sample.len(), "table"));
        verdict.measure(Metric::new("postgres_tables_overdue_for_vacuum", sample.len() as f64));
        verdict
    }
}
