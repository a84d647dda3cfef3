//! Whether it was proved lately that backups restore (references 001 and 003: restore tests, recovery objectives).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use pgbosun_history::RestoreTestRow;
use std::time::Duration;

options! {
    /// Alerts when the last restore test of the cluster failed or is too old. Whether its times met their objectives is
    /// reported by the test itself.
    pub struct RestoreTests {
        /// Warns when the last one is older than this.
        warning_age: Duration = "\"35d\"";
    }
}

#[async_trait]
impl Monitor for RestoreTests {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "45 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::RestoreTests,
        source: "references 001 and 003: regular restore tests",
        queries: &[],
    };
    type Sample = Option<RestoreTestRow>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let (cluster, _) = session.context.cluster()?;
        let tests = session.context.journal.last_restore_tests().await?;
        Ok(tests.into_iter().find(|test| test.cluster == cluster))
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let finding = |severity, summary: String| {
            Finding::new(severity, "restore test", summary)
                .meaning("Nobody knows whether the backups can be restored, and how long that takes.")
                .advice("Run one: \"pgbosun restore-test\".")
        };
        let Some(test) = sample else {
            let mut verdict = Verdict::of("no restore test yet");
            verdict.find(finding(Severity::Warning, "no restore test was ever run".into()));
            return verdict;
        };
        let age = baseline.now - test.started_at;
        let (seconds, told) = (age.as_seconds_f64(), human::span(age));
        let outcome = if test.passed { "passed" } else { "failed" };
        let mut verdict = Verdict::of(format!("{} {outcome} {told} ago", test.label));
        verdict.measure(Metric::new("postgres_restore_test_age_seconds", seconds));
        verdict.measure(Metric::new("postgres_restore_test_passed", f64::from(u8::from(test.passed))));
        if !test.passed {
            verdict.find(finding(Severity::Critical, format!("the last restore test, of {}, failed", test.label)));
        } else {
            verdict.measure(Metric::new("postgres_restore_test_recovery_time_seconds", test.total_seconds));
            let age = test.recovery_point_age_seconds;
            verdict.measure(Metric::new("postgres_restore_test_recovery_point_age_seconds", age));
            let severity = baseline.above("restore test", seconds, self.warning_age.as_secs_f64(), f64::INFINITY);
            verdict.find(finding(severity, format!("the last restore test was {told} ago")));
        }
        verdict
    }
}
