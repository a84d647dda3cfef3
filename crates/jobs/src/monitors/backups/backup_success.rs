//! How many runs of the backup jobs succeeded (references 003 and 004: warning below 95 % over seven days).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    family::Family,
    finding::Finding,
    human,
    metric::Metric,
    options,
    run::{Run, RunState},
};
use pgbosun_history::RunFilter;
use std::time::Duration;

options! {
    /// Alerts when too many runs of the cluster's backup jobs failed.
    pub struct BackupSuccess {
        /// Warns when the share of runs that succeeded is below this, percent.
        warning_percent: f64 = "95.0";
        /// Critical below this share, percent.
        critical_percent: f64 = "50.0";
        /// How far back runs are counted.
        window: Duration = "\"7d\"";
    }
}

#[async_trait]
impl Monitor for BackupSuccess {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "25 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "references 003 and 004: success rate over 7 days below 95 %",
        queries: &[],
    };
    type Sample = Vec<Run>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let context = session.context;
        let (cluster, _) = context.cluster()?;
        let jobs = context.config.jobs.values().filter(|job| job.family() == Family::Backup);
        let own = jobs.filter(|job| context.config.cluster_of(job).is_some_and(|(name, _)| name == cluster));
        let mut runs = Vec::new();
        for job in own {
            let filter = RunFilter { job: Some(job.name.clone()), limit: 2_000, ..RunFilter::default() };
            runs.extend(context.journal.runs(filter).await?);
        }
        Ok(runs)
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let window = chrono::Duration::from_std(self.window).unwrap_or_default();
        let counted = |run: &&Run| baseline.now - run.scheduled_for < window;
        let good = sample.iter().filter(counted).filter(|run| run.state == RunState::Succeeded).count();
        // What was ended by a stop and begun again counts as it came out.
        let is_last = |run: &&Run| !sample.iter().any(|later| later.is_again(run));
        let bad: Vec<_> = sample.iter().filter(counted).filter(|run| run.state.is_failure()).filter(is_last).collect();
        let all = good + bad.len();
        if all == 0 {
            return Verdict::of("no backup ran");
        }
        let (percent, told) = (100.0 * good as f64 / all as f64, human::duration(self.window));
        let mut verdict = Verdict::of(format!("{good} of {all} backups succeeded within {told}"));
        verdict.measure(Metric::new("postgres_backup_success_percent", percent));
        let severity = baseline.below_percent("success", percent, self.warning_percent, self.critical_percent);
        let failed =
            bad.iter().take(10).map(|run| [run.scheduled_for.into(), Value::of(&run.job), Value::of(&run.summary)]);
        verdict.find(
            Finding::new(severity, "success", format!("only {percent:.0} % of backups succeeded within {told}"))
                .meaning("Whether a backup succeeds is a matter of luck: one day there will be none when it is needed.")
                .advice("See what the failures below have in common.")
                .detail(Detail::new().table(["scheduled for", "job", "reason"], failed)),
        );
        verdict
    }
}
