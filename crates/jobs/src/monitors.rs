//! Monitors: a sample of the world, and a pure verdict on it.
//!
//! A monitor never hurts what it watches: those of one cluster connect one after the other. One whose sample fails is a
//! failed run, which alerts as UNKNOWN: a broken check never looks like a quiet one.

mod backup_age;
mod connectivity;
mod disk;
mod wal_archive;

pub use backup_age::BackupAge;
pub use connectivity::Connectivity;
pub use disk::Disk;
pub use wal_archive::WalArchive;

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{
    finding::{Finding, Severity},
    outcome::Outcome,
};

/// Watches one thing.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// What is looked at.
    type Sample: Send + Sync;

    /// Looks.
    async fn sample(&self, context: &JobContext) -> Result<Self::Sample, JobError>;

    /// Judges: one line for people, and what is wrong.
    fn verdict(&self, sample: &Self::Sample) -> (String, Vec<Finding>);
}

/// Makes a monitor a job.
pub struct Probe<M>(pub M);

#[async_trait]
impl<M: Monitor> Job for Probe<M> {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let _turn = context.gate.acquire().await.map_err(|_| JobError::passing("the daemon is stopping"))?;
        let sample = tokio::select! {
            sample = self.0.sample(context) => sample?,
            () = context.cancel.cancelled() => return Err(JobError::passing("cancelled")),
        };
        let (summary, findings) = self.0.verdict(&sample);
        Ok(Outcome { summary, findings, ..Outcome::default() })
    }

    fn failure_severity(&self) -> Severity {
        Severity::Unknown
    }
}
