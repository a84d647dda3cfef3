//! Monitors: a sample of the world, and a verdict on it that is a pure function of sample, memory and open alerts.
//!
//! A monitor never hurts what it watches: those of one cluster take turns on one connection ([`Line`]). One whose sample
//! fails is a failed run, which alerts as UNKNOWN: a broken check never looks like a quiet one. Every query and limit says
//! where it comes from, in the doc comment of its file and in [`Facts`], from which `docs/monitors.md` is made.

mod availability;
mod backups;
mod capacity;
mod custom;
mod health;
mod host;
mod line;
mod rates;
mod reference;
mod replication;
pub(crate) mod security;
mod transactions;
mod view;

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
pub use line::{Line, Look};
pub use rates::{Rate, Rates};
pub use reference::reference;
pub use replication::{ReplicationLag, Slots, Standby};
pub use security::{FailedLogins, Hba, Passwords, Superusers, log_advice};
pub use transactions::{Deadlocks, Locks, LongTransactions, XidAge};
pub use view::View;

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{
    figure::Figure,
    finding::{Finding, Severity},
    outcome::Outcome,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Watches one thing.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// What documentation and configuration know of it.
    const FACTS: Facts;
    /// What is looked at.
    type Sample: Send + Sync;
    /// What it remembers from look to look; `()` for most.
    type Memory: Default + Serialize + DeserializeOwned + Send;

    /// Looks.
    async fn sample(&self, look: &mut Look<'_>) -> Result<Self::Sample, JobError>;

    /// Judges.
    fn verdict(&self, sample: &Self::Sample, memory: &mut Self::Memory, view: &View) -> Verdict;
}

/// What is known of a kind of monitor before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When it runs unless a job says otherwise.
    pub every: &'static str,
    /// The group that is told.
    pub group: &'static str,
    /// How many looks in a row must see a problem before it is told: more than one where it may pass by itself.
    pub looks: u32,
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
    pub figures: Vec<Figure>,
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
    pub fn measure(&mut self, figure: Figure) {
        self.figures.push(figure);
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
pub struct Probe<M>(pub M);

#[async_trait]
impl<M: Monitor> Job for Probe<M> {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let look = async {
            let mut look = Look::new(context);
            let sample = self.0.sample(&mut look).await;
            let unseen = look.end().await;
            sample.map(|sample| (sample, unseen))
        };
        let (sample, unseen) = tokio::select! {
            sample = look => sample?,
            () = context.cancel.cancelled() => return Err(JobError::passing("cancelled")),
        };
        let before = context.state.clone().unwrap_or_default();
        // A memory of another version is none.
        let mut memory: M::Memory = serde_json::from_value(before.clone()).unwrap_or_default();
        let mut verdict = self.0.verdict(&sample, &mut memory, &context.view);
        verdict.findings.extend(unseen);
        let after = serde_json::to_value(&memory)
            .map_err(|error| JobError::lasting("cannot save what it remembers").because(error))?;
        Ok(Outcome {
            summary: verdict.summary,
            findings: verdict.findings,
            figures: verdict.figures,
            state: (after != before).then_some(after),
            ..Outcome::default()
        })
    }

    fn failure_severity(&self) -> Severity {
        Severity::Unknown
    }
}
