//! Monitors: a sample of the world, and a verdict on it that is a pure function of sample, memory and open alerts.
//!
//! A monitor never hurts what it watches: those of one cluster take turns on one connection (`ClusterConnection`). One whose sample
//! fails is a failed run, which alerts as UNKNOWN: a broken check never looks like a quiet one. Every query and limit says
//! where it comes from, in the doc comment of its file and in [`MonitorFacts`], from which `docs/monitors.md` is made.

mod availability;
mod backups;
mod capacity;
mod custom;
mod health;
mod host;
mod rates;
mod reference;
mod replication;
pub(crate) mod security;
mod session;
mod transactions;

pub use availability::{Certificate, Connectivity, Restart, Role, Settings, Version};
pub use backups::{BackupAge, BackupCopies, BackupCount, BackupSize, BackupSuccess, RestoreTests, WalArchive, WalGaps};
pub use capacity::{Connections, DatabaseSize, Tablespaces, TempBytes, WalSize};
pub use custom::{CommandMonitor, SqlMonitor};
pub use health::{
    Autovacuum, Bloat, CacheHit, Checkpoints, Checksums, InvalidIndexes, Sequences, Statements, Statistics, Unlogged,
    Vacuum,
};
pub use host::{Clock, Cpu, Disk, LogSize, Memory, Permissions, Pressure, Reachability, TemporaryFiles};
pub(crate) use host::{FileSystem, synchronized};
pub use rates::{Rate, Rates};
pub use reference::reference;
pub use replication::{ReplicationLag, Slots, Standby};
pub use security::{FailedLogins, Hba, Passwords, Superusers, log_advice};
pub use session::MonitorSession;
pub use transactions::{Deadlocks, Locks, LongTransactions, XidAge};

use crate::{Baseline, Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{
    finding::{Finding, Severity},
    metric::Metric,
    outcome::Outcome,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Watches one thing.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// What documentation and configuration know of it.
    const FACTS: MonitorFacts;
    /// What is checked.
    type Sample: Send + Sync;
    /// What it remembers from check to check; `()` for most.
    type Memory: Default + Serialize + DeserializeOwned + Send;

    /// Takes the sample.
    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError>;

    /// Judges.
    fn verdict(&self, sample: &Self::Sample, memory: &mut Self::Memory, baseline: &Baseline) -> Verdict;
}

/// What is known of a kind of monitor before it runs.
#[derive(Clone, Copy, Debug)]
pub struct MonitorFacts {
    /// When it runs unless a job says otherwise.
    pub every: &'static str,
    /// The group that is notified.
    pub group: &'static str,
    /// How many checks in a row must see a problem before it is told: more than one where it may pass by itself.
    pub checks: u32,
    /// What must be configured for it.
    pub needs: pgbosun_core::config::Needs,
    /// Where its query and its limits come from.
    pub source: &'static str,
    /// What it asks the server.
    pub queries: &'static [Query],
}

/// One query of a monitor.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What it does, as an error completes "cannot …".
    pub what: &'static str,
    /// The statement.
    pub sql: &'static str,
}

/// What a monitor came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// One line for people.
    pub summary: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub metrics: Vec<Metric>,
}

impl Verdict {
    /// Nothing wrong so far.
    pub fn of(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    /// Adds what is wrong; what is [`Severity::Ok`] is not.
    pub fn find(&mut self, finding: Finding) {
        if finding.severity > Severity::Ok {
            self.findings.push(finding);
        }
    }

    /// Adds what was measured.
    pub fn measure(&mut self, metric: Metric) {
        self.metrics.push(metric);
    }
}

/// One finding a database, of what is kept of what was found in it.
pub fn by_database<T>(
    sample: &[(String, T)],
    keep: impl Fn(&(String, T)) -> bool,
    finding: impl Fn(&str, &[&(String, T)]) -> Finding,
) -> Verdict {
    let mut databases: BTreeMap<&str, Vec<&(String, T)>> = BTreeMap::new();
    for found in sample.iter().filter(|found| keep(found)) {
        databases.entry(&found.0).or_default().push(found);
    }
    let findings = databases.into_iter().map(|(database, found)| finding(database, &found)).collect();
    Verdict { findings, ..Verdict::default() }
}

/// What a summary ends with where the role does not see everything; each row tells it of its database.
fn unseen<'a>(rows: impl Iterator<Item = (&'a String, i64)>) -> String {
    let databases: BTreeMap<_, _> = rows.collect();
    match databases.into_values().sum() {
        0_i64 => String::new(),
        unseen => format!("; {unseen} not visible to this role: grant pg_read_all_data"),
    }
}

/// Makes a monitor a job.
pub struct MonitorJob<M>(pub M);

#[async_trait]
impl<M: Monitor> Job for MonitorJob<M> {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let sampled = async {
            let mut session = MonitorSession::new(context);
            let sample = self.0.sample(&mut session).await;
            let unseen = session.end().await;
            sample.map(|sample| (sample, unseen))
        };
        let (sample, unseen) = tokio::select! {
            sample = sampled => sample?,
            () = context.cancel.cancelled() => return Err(JobError::passing("cancelled")),
        };
        let before = context.state.clone().unwrap_or_default();
        // A memory of another version is none.
        let mut memory: M::Memory = serde_json::from_value(before.clone()).unwrap_or_default();
        let mut verdict = self.0.verdict(&sample, &mut memory, &context.baseline);
        verdict.findings.extend(unseen);
        let after = serde_json::to_value(&memory)
            .map_err(|error| JobError::lasting("cannot save what it remembers").because(error))?;
        Ok(Outcome {
            summary: verdict.summary,
            findings: verdict.findings,
            metrics: verdict.metrics,
            state: (after != before).then_some(after),
            ..Outcome::default()
        })
    }

    fn failure_severity(&self) -> Severity {
        Severity::Unknown
    }
}
