//! Statements that `pg_stat_statements` forgets (its documentation: `dealloc`, the statistics are incomplete then).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Rate, Rates, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    metric::Metric,
    options,
};
use pgbosun_postgres::{ForeignSchema, stranger};

options! {
    /// Alerts when `pg_stat_statements` evicts statements: reports then miss what they should show. Quiet if the extension is
    /// not installed in the database of the connection.
    pub struct Statements {
        /// Warns when the least used statements are evicted more than this many times an hour.
        warning_per_hour: u32 = "10";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    evicted: Option<i64>,
    /// The extension is there, in whatever version.
    installed: bool,
    /// Who owns its schema, where that is a stranger.
    #[sqlx(try_from = "pgbosun_postgres::MaybeLossy")]
    stranger: Option<String>,
    maximum: Option<i64>,
}

/// C39: asked only where nobody else can put another view in its place. Asked through XML, since the view is in whatever schema the
/// extension is in, and may not be there at all.
const EVICTED: &str = concat!(
    "select /* pgbosun */ (select (pg_catalog.xpath('//dealloc/text()',
                    pg_catalog.query_to_xml(pg_catalog.format('select dealloc from %I.pg_stat_statements_info', n.nspname),
                                            false, true, '')))[1]::text::bigint
        from pg_catalog.pg_extension e
        join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'pg_stat_statements' and ",
    stranger!("n.nspowner"),
    " is null
          and pg_catalog.to_regclass(pg_catalog.format('%I.pg_stat_statements_info', n.nspname)) is not null) as evicted,
       exists (select from pg_catalog.pg_extension where extname = 'pg_stat_statements') as installed,
       (select ",
    stranger!("n.nspowner"),
    "
        from pg_catalog.pg_extension e
        join pg_catalog.pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'pg_stat_statements') as stranger,
       pg_catalog.current_setting('pg_stat_statements.max', true)::bigint as maximum"
);

#[async_trait]
impl Monitor for Statements {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "19 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "pg_stat_statements_info.dealloc, by delta",
        queries: &[Query { what: "read pg_stat_statements_info", sql: EVICTED }],
    };
    type Sample = Sample;
    type Memory = Rates;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Rates, baseline: &Baseline) -> Verdict {
        let Some(evicted) = sample.evicted else {
            let mut verdict = Verdict::of("pg_stat_statements is not installed here");
            if let Some(owner) = &sample.stranger {
                verdict.summary = format!("pg_stat_statements is not queried: its schema belongs to {owner}");
                verdict.find(
                    Finding::new(Severity::Warning, "schema", &verdict.summary)
                        .meaning(
                            "Whoever owns the schema can put another view in its place, which would run with pgbosun's rights.",
                        )
                        .advice(ForeignSchema::remedy("pg_stat_statements")),
                );
            } else if sample.installed {
                verdict.summary = "pg_stat_statements is an old version".into();
                verdict.find(
                    Finding::new(Severity::Warning, "version", &verdict.summary)
                        .meaning("It was not updated when the server was upgraded, and does not report what it evicts.")
                        .advice("ALTER EXTENSION pg_stat_statements UPDATE, in the database of the connection."),
                );
            }
            return verdict;
        };
        let rates = memory.advance(baseline.now, [("evicted", evicted)]);
        let hourly = rates.get("evicted").map_or(0.0, Rate::per_hour);
        let mut verdict = Verdict::of(format!("statements were evicted {hourly:.0} times an hour"));
        verdict.measure(Metric::new("postgres_statement_evictions_total", evicted as f64));
        let severity = baseline.above("evictions", hourly, f64::from(self.warning_per_hour), f64::INFINITY);
        let maximum = sample.maximum.unwrap_or_default();
        verdict.find(
            Finding::new(
                severity,
                "evictions",
                format!("pg_stat_statements evicts statements {hourly:.0} times an hour"),
            )
            .meaning("Statement statistics are incomplete, and so are reports.")
            .advice(format!(
                "Raise pg_stat_statements.max above {maximum} (needs a restart), or have the application use parameters."
            )),
        );
        verdict
    }
}
