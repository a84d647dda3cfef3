//! Transactions that stay open (check_pgactivity: longest_query, oldest_idlexact, oldest_2pc; check_postgres: txn_idle,
//! txn_time, prepared_txns).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::Finding,
    human,
    metric::Metric,
    options,
};
use std::time::Duration;

options! {
    /// Alerts when transactions stay open: while one does, vacuum removes nothing newer than it, and its locks are held.
    pub struct LongTransactions {
        /// Warns when a transaction has been open this long, active or not.
        warning: Duration = "\"1h\"";
        /// Critical after this long.
        critical: Duration = "\"4h\"";
        /// Warns when a session has held a transaction open without doing anything for this long.
        warning_idle: Duration = "\"10m\"";
        /// Critical after this long.
        critical_idle: Duration = "\"1h\"";
        /// Warns when a prepared transaction has waited this long for its second phase.
        warning_prepared: Duration = "\"10m\"";
        /// Critical after this long.
        critical_prepared: Duration = "\"1h\"";
        /// Programs (`application_name`) whose transactions may take long.
        ignore: Vec<String> = "[\"pg_dump\", \"pgbosun\"]";
    }
}

#[derive(sqlx::FromRow)]
pub struct Transaction {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    who: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    application: String,
    seconds: f64,
}

#[async_trait]
impl Monitor for LongTransactions {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity longest_query, oldest_idlexact, oldest_2pc; check_postgres txn_time, txn_idle",
        queries: &[Query { what: "look for open transactions", sql: include_str!("long_transactions.sql") }],
    };
    type Sample = Vec<Transaction>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let watched = sample.iter().filter(|one| one.application.is_empty() || !self.ignore.contains(&one.application));
        let watched: Vec<_> = watched.collect();
        // Those that are idle are among the long ones too.
        let open = watched.iter().filter(|one| one.kind != "idle in transaction").count();
        let longest = watched.iter().map(|one| one.seconds).fold(0.0, f64::max);
        let told = |seconds: f64| human::duration(Duration::from_secs_f64(seconds.max(0.0)));
        let mut verdict = Verdict::of(format!("{open} open, the longest for {}", told(longest)));
        let kinds = [
            (
                "long transaction",
                self.warning,
                self.critical,
                "Find out what it is doing; pg_cancel_backend(process) ends the query, pg_terminate_backend(process) an idle session.",
            ),
            (
                "idle in transaction",
                self.warning_idle,
                self.critical_idle,
                "The application forgot to commit. pg_terminate_backend(process) ends it; idle_in_transaction_session_timeout does so automatically.",
            ),
            (
                "prepared transaction",
                self.warning_prepared,
                self.critical_prepared,
                "Ask its transaction manager, then COMMIT PREPARED or ROLLBACK PREPARED, in its database.",
            ),
        ];
        for (kind, warning, critical, advice) in kinds {
            let own: Vec<_> = watched.iter().filter(|one| one.kind == kind).collect();
            let longest = own.iter().map(|one| one.seconds).fold(0.0, f64::max);
            let metric = format!("postgres_oldest_{}_seconds", kind.replace(' ', "_"));
            verdict.measure(Metric::new(&metric, longest));
            let severity = baseline.above(kind, longest, warning.as_secs_f64(), critical.as_secs_f64());
            let longest_ones = own.iter().take(10).map(|one| [Value::of(told(one.seconds)), Value::of(&one.who)]);
            verdict.find(
                Finding::new(
                    severity,
                    kind,
                    format!("{kind} for {} (limit {})", told(longest), human::duration(warning)),
                )
                .meaning("Vacuum removes nothing newer than it, in any table, and its locks are held.")
                .advice(advice)
                .detail(Detail::new().table(["for", "who"], longest_ones)),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn each_kind_has_limits_of_its_own_and_some_programs_may() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let monitor = LongTransactions {
            warning: hours(1),
            critical: hours(4),
            warning_idle: hours(0) + Duration::from_secs(600),
            critical_idle: hours(1),
            warning_prepared: hours(1),
            critical_prepared: hours(2),
            ignore: vec!["pg_dump".into()],
        };
        let check = |kind: &str, application: &str, minutes: u64| {
            let (kind, application) = (kind.to_owned(), application.to_owned());
            let one = Transaction { kind, who: "x".into(), application, seconds: minutes as f64 * 60.0 };
            monitor.verdict(&vec![one], &mut (), &Baseline::default()).findings.first().map(|finding| finding.severity)
        };
        assert_eq!(check("long transaction", "psql", 59), None);
        assert_eq!(check("long transaction", "psql", 61), Some(Severity::Warning));
        assert_eq!(check("long transaction", "pg_dump", 600), None);
        assert_eq!(check("idle in transaction", "psql", 11), Some(Severity::Warning));
        assert_eq!(check("idle in transaction", "psql", 61), Some(Severity::Critical));
        assert_eq!(check("prepared transaction", "", 130), Some(Severity::Critical));
    }
}
