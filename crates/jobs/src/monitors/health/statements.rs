//! Statements that `pg_stat_statements` forgets (its documentation: `dealloc`, the statistics are incomplete then).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Rate, Rates, Verdict, View},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    figure::Figure,
    finding::{Finding, Severity},
    options,
};

options! {
    /// Alerts when `pg_stat_statements` throws statements out: reports then miss what they should show. Quiet where the
    /// extension is not in the database of the connection.
    pub struct Statements {
        /// Warns above so many times an hour that the least used statements are thrown out.
        warning_per_hour: u32 = "10";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    evicted: Option<i64>,
    /// The extension is there, in whatever version.
    installed: bool,
    maximum: Option<i64>,
}

#[async_trait]
impl Monitor for Statements {
    const FACTS: Facts = Facts {
        every: "19 * * * *",
        group: "database",
        looks: 1,
        needs: Needs::Cluster,
        source: "pg_stat_statements_info.dealloc, by delta",
        queries: &[Query { what: "read pg_stat_statements_info", sql: include_str!("statements.sql") }],
    };
    type Sample = Sample;
    type Memory = Rates;

    async fn sample(&self, look: &mut Look<'_>) -> Result<Sample, JobError> {
        look.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Rates, view: &View) -> Verdict {
        let Some(evicted) = sample.evicted else {
            let mut verdict = Verdict::of("pg_stat_statements is not here");
            if sample.installed {
                verdict.summary = "pg_stat_statements is of an old version".into();
                verdict.find(
                    Finding::new(Severity::Warning, "version", &verdict.summary)
                        .meaning("It stayed behind when the server was upgraded, and does not tell what it throws out.")
                        .advice("ALTER EXTENSION pg_stat_statements UPDATE, in the database of the connection."),
                );
            }
            return verdict;
        };
        let rates = memory.advance(view.now, [("evicted", evicted)]);
        let hourly = rates.get("evicted").map_or(0.0, Rate::per_hour);
        let mut verdict = Verdict::of(format!("statements were thrown out {hourly:.0} times an hour"));
        verdict.measure(Figure::new("postgres_statement_evictions_total", evicted as f64));
        let severity = view.above("evictions", hourly, f64::from(self.warning_per_hour), f64::INFINITY);
        let maximum = sample.maximum.unwrap_or_default();
        verdict.find(
            Finding::new(
                severity,
                "evictions",
                format!("pg_stat_statements throws statements out {hourly:.0} times an hour"),
            )
            .meaning("Statistics of statements are incomplete, and so are reports.")
            .advice(format!(
                "Raise pg_stat_statements.max above {maximum} (a restart), or let the application use parameters."
            )),
        );
        verdict
    }
}
