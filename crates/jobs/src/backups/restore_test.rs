//! The restore test on a schedule: proof that the newest backup restores, and how long it takes.

use super::bulk_token;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{RestoreTest, RestoreTestResult};
use pgbosun_core::{
    config::RepositoryName,
    finding::{Finding, Severity},
    human, options,
    outcome::{Outcome, Record, RestoreTestRecord},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use uuid::Uuid;

options! {
    /// Restores the newest good backup into a scratch server on a private socket, counts the rows of every table,
    /// measures each phase, and removes it all.
    pub struct RestoreTestJob {
        /// The repository to restore from; the first one by default.
        repository: Option<RepositoryName>;
        /// Where the scratch server may live, with room for the whole cluster; `restore-test` in the state directory by default.
        scratch_directory: Option<PathBuf>;
        /// Where the server's programs are, unless in the usual place of their version.
        program_directory: Option<PathBuf>;
        /// How long the scratch server may take to recover.
        recovery_timeout: Duration = "\"1h\"";
        /// The recovery time objective: a longer test alerts.
        recovery_time_objective: Option<Duration>;
        /// The recovery point objective: an older recovered state alerts.
        recovery_point_objective: Option<Duration>;
    }
}

#[async_trait]
impl Job for RestoreTestJob {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, _) = context.cluster()?;
        let named: Vec<_> = self.repository.iter().cloned().collect();
        let Some(repository) = context.repositories(&named).into_iter().next() else {
            return Err(JobError::lasting("no repository is configured"));
        };
        let Some(info) = repository.newest_good(cluster).await? else {
            return Err(JobError::lasting(format!("repository {} has no good backup of {cluster}", repository.name)));
        };
        if context.dry_run {
            let summary = format!("would restore {} of {cluster} from {}", info.label, repository.name);
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let scratch = self.scratch_directory.clone();
        let (cancel, _guard) = bulk_token(context);
        let label = info.label.clone();
        let name = repository.name.clone();
        let test = RestoreTest {
            repository,
            info,
            scratch_directory: scratch.unwrap_or_else(|| context.config.daemon.state_directory.join("restore-test")),
            program_directory: self.program_directory.clone(),
            recovery_timeout: self.recovery_timeout,
            progress: Arc::clone(&context.progress),
            cancel,
        };
        let result = context.in_bulk(async move { test.run().await }).await?;
        Ok(Outcome {
            summary: format!(
                "{label} restored and checked in {}: {} databases, {} tables, {} rows; its state is {} old",
                human::duration(result.total),
                result.databases,
                result.tables,
                result.rows,
                human::duration(result.recovery_point_age)
            ),
            findings: self.judge(&label, &result),
            records: vec![Record::RestoreTest(record(cluster, &name, &label, &result))],
            state: None,
        })
    }
}

impl RestoreTestJob {
    fn judge(&self, label: &str, result: &RestoreTestResult) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |object: &str, summary: String, meaning: &str, advice: &str, detail: String| {
            let severity = Severity::Critical;
            let (object, meaning, advice) = (object.into(), meaning.into(), advice.into());
            findings.push(Finding { object, severity, summary, meaning, advice, detail });
        };
        if !result.faults.is_empty() {
            find(
                "contents",
                format!("backup {label} restores, but not everything in it can be read"),
                "After a disaster this data would be missing.",
                "Look at the tables named below in the live cluster, then take and test a new backup.",
                result.faults.join("\n"),
            );
        }
        let phases = format!(
            "restore: {}\nrecovery: {}\nchecks: {}",
            human::duration(result.restore),
            human::duration(result.recovery),
            human::duration(result.check)
        );
        if let Some(limit) = self.recovery_time_objective.filter(|limit| result.total > *limit) {
            find(
                "recovery time",
                format!("restoring takes {} (objective {})", human::duration(result.total), human::duration(limit)),
                "After a disaster the database would be away for longer than was agreed.",
                "Look which phase takes the time; a faster disk, more threads or a smaller cluster shorten it.",
                phases.clone(),
            );
        }
        if let Some(limit) = self.recovery_point_objective.filter(|limit| result.recovery_point_age > *limit) {
            find(
                "recovery point",
                format!(
                    "what can be restored is {} old (objective {})",
                    human::duration(result.recovery_point_age),
                    human::duration(limit)
                ),
                "After a disaster more work would be lost than was agreed.",
                "Take backups more often, or archive WAL.",
                phases,
            );
        }
        findings
    }
}

fn record(cluster: &str, repository: &str, label: &str, result: &RestoreTestResult) -> RestoreTestRecord {
    RestoreTestRecord {
        id: Uuid::now_v7(),
        cluster: cluster.to_owned(),
        repository: repository.to_owned(),
        label: label.to_owned(),
        started_at: result.started_at,
        total_seconds: result.total.as_secs_f64(),
        restore_seconds: result.restore.as_secs_f64(),
        recovery_seconds: result.recovery.as_secs_f64(),
        check_seconds: result.check.as_secs_f64(),
        recovery_point_age_seconds: result.recovery_point_age.as_secs_f64(),
        databases: result.databases,
        tables: result.tables,
        rows: result.rows,
        passed: result.faults.is_empty(),
        detail: result.faults.join("\n"),
    }
}
