//! The seam between the runner and what runs: `Job`, and what it is given. It knows no kind of job.

use crate::{JobError, baseline::Baseline, connection::ClusterConnection};
use async_trait::async_trait;
use pgbosun_backup::Progress;
use pgbosun_core::{
    config::{self, Config, RepositoryName},
    finding::Severity,
    outcome::{Outcome, Record},
};
use pgbosun_history::Journal;
use pgbosun_postgres::Server;
use pgbosun_repository::Repository;
use serde::de::DeserializeOwned;
use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Something that can be run.
#[async_trait]
pub trait Job: Send + Sync {
    /// Runs once. The runner has a timeout of its own; a job watches `context.cancel` and ends what it started.
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError>;

    /// What its timeout is at least: a job that ends by itself, with a budget of its own, needs the time to do so.
    fn least_timeout(&self) -> Duration {
        Duration::ZERO
    }

    /// Where it writes outside the state directory.
    fn writes(&self, _config: &Config, _job: &config::Job) -> Vec<PathBuf> {
        Vec::new()
    }

    /// How bad it is that this job failed: for a monitor nobody knows, for a backup there is none.
    fn failure_severity(&self) -> Severity {
        Severity::Critical
    }
}

/// What a run is given.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// The run.
    pub run_id: Uuid,
    /// The job.
    pub job: String,
    /// Why it runs.
    pub trigger: pgbosun_core::run::Trigger,
    /// The cluster it works on.
    pub cluster: Option<(String, Server)>,
    /// The configuration as it was when the run began.
    pub config: Arc<Config>,
    /// History, for reading.
    pub journal: Journal,
    /// What the last run left.
    pub state: Option<serde_json::Value>,
    /// Asks the job to stop.
    pub cancel: CancellationToken,
    /// Where the job says how far it is.
    pub progress: Arc<Progress>,
    /// What is wrong already, for monitors.
    pub baseline: Baseline,
    /// The connection that the cluster's monitors share, one at a time.
    pub connection: Arc<ClusterConnection>,
    /// What is certain already, whatever becomes of the run.
    pub ledger: Ledger,
    /// The runtime for bulk work, apart from the scheduler's threads.
    pub bulk: Handle,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Facts that a long run writes down as it goes: they are kept also where it is told to stop, given up, or killed.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<Record>>>);

impl Ledger {
    /// Writes one down.
    pub fn add(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Gives back what was taken and could not be kept.
    pub fn put_back(&self, records: Vec<Record>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).splice(0..0, records);
    }

    /// All that were written down since they were taken last.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl JobContext {
    /// The cluster, which the configuration check has made sure of.
    ///
    /// # Errors
    /// Where the job was configured without one after all.
    pub fn cluster(&self) -> Result<(&str, &Server), JobError> {
        match &self.cluster {
            Some((name, server)) => Ok((name, server)),
            None => Err(JobError::lasting(format!("job {} has no cluster", self.job))),
        }
    }

    /// What the last run left; what another version left may be none.
    pub fn memory<T: DeserializeOwned + Default>(&self) -> T {
        self.state.clone().and_then(|state| serde_json::from_value(state).ok()).unwrap_or_default()
    }

    /// The named repositories, or all where none is named.
    ///
    /// # Errors
    /// Where one cannot be used as configured.
    pub fn repositories(&self, names: &[RepositoryName]) -> Result<Vec<Repository>, JobError> {
        let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted.0 == name);
        let chosen = self.config.repositories.iter().filter(|(name, _)| wanted(name));
        Ok(chosen.map(|(name, options)| Repository::open(&self.config, name, options)).collect::<Result<_, _>>()?)
    }

    /// Runs bulk work away from the scheduler's threads. When the caller is dropped the work is told to stop.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn in_bulk<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, JobError>
    where
        T: Send + 'static,
        E: Into<JobError> + Send + 'static,
    {
        match self.bulk.spawn(work).await {
            Ok(done) => done.map_err(Into::into),
            Err(error) => Err(JobError::lasting("the job ended unexpectedly").because(error)),
        }
    }
}
