//! The seam between the runner and what runs: `Job`, what it is given, and how it fails.

use crate::{
    backups::{BackupPhysical, Replicate},
    monitors::{Baseline, ClusterConnection},
};
use async_trait::async_trait;
use pgbosun_backup::Progress;
use pgbosun_core::{
    config::{self, Config, RepositoryName},
    finding::Severity,
    outcome::{Outcome, Record},
};
use pgbosun_history::Journal;
use pgbosun_postgres::Server;
use pgbosun_repository::{Repository, may_pass};
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

    /// The named repositories; where none is named those that the backups of the cluster go to, and those they are copied to, or
    /// all where no job of it takes any.
    ///
    /// # Errors
    /// Where one cannot be used as configured.
    pub fn backup_repositories(&self, names: &[RepositoryName]) -> Result<Vec<Repository>, JobError> {
        if !names.is_empty() {
            return self.repositories(names);
        }
        let (cluster, _) = self.cluster()?;
        let taken = self.config.options_of::<BackupPhysical>(cluster).flat_map(|job| job.repositories);
        let copied = self.config.options_of::<Replicate>(cluster).map(|job| job.to);
        self.repositories(&taken.chain(copied).collect::<Vec<_>>())
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

/// How a run failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    message: String,
    cause: Cause,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    output: String,
}

/// What a failure is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Trying again does not cure it.
    Lasting,
    /// It may pass.
    Passing,
    /// The server did not come to the end in time, which may pass.
    Slow,
    /// The server is away, which may pass too.
    Unreachable,
    /// The role may not do this.
    Refused,
}

impl JobError {
    fn new(message: impl Into<String>, cause: Cause) -> Self {
        Self { message: message.into(), cause, source: None, output: String::new() }
    }

    /// A failure that trying again does not cure.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Lasting)
    }

    /// A failure that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Passing)
    }

    /// The server is away.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Unreachable)
    }

    /// What it comes from. An error of the operating system that may pass makes the failure one that may.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let cause = match (self.cause, source.downcast_ref()) {
            (Cause::Lasting, Some(error)) if may_pass(error) => Cause::Passing,
            (cause, _) => cause,
        };
        Self { cause, source: Some(source), ..self }
    }

    /// With the end of what the program that failed said.
    #[must_use]
    pub fn with_output(self, output: impl Into<String>) -> Self {
        Self { output: output.into(), ..self }
    }

    /// The end of what the program that failed said; empty where there is none.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The same failure of a server that is to be taken for away.
    #[must_use]
    pub fn as_unreachable(self) -> Self {
        Self { cause: Cause::Unreachable, ..self }
    }

    /// Whether a retry makes sense.
    pub const fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::Passing | Cause::Slow | Cause::Unreachable)
    }

    /// Whether it failed because the server is away.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self.cause, Cause::Unreachable)
    }

    /// Whether the server did not come to the end in time.
    pub const fn is_slow(&self) -> bool {
        matches!(self.cause, Cause::Slow)
    }

    /// Whether the role may not do this.
    pub const fn is_refused(&self) -> bool {
        matches!(self.cause, Cause::Refused)
    }
}

/// The error says of itself what it says, and stays what it is as the source of this one.
fn told(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, cause: Cause) -> JobError {
    let error = error.into();
    JobError { message: error.to_string(), cause, source: Some(error), output: String::new() }
}

impl From<pgbosun_postgres::Error> for JobError {
    fn from(error: pgbosun_postgres::Error) -> Self {
        let cause = match (error.is_transient(), error.is_unreachable()) {
            _ if error.is_refused() => Cause::Refused,
            (true, true) => Cause::Unreachable,
            (true, false) if error.is_slow() => Cause::Slow,
            (true, false) => Cause::Passing,
            (false, _) => Cause::Lasting,
        };
        told(error, cause)
    }
}

impl From<pgbosun_repository::Error> for JobError {
    fn from(error: pgbosun_repository::Error) -> Self {
        let cause = if error.is_transient() { Cause::Passing } else { Cause::Lasting };
        told(error, cause)
    }
}

impl From<pgbosun_backup::Error> for JobError {
    fn from(error: pgbosun_backup::Error) -> Self {
        match error {
            // Whatever it was done for, a server that is away is away.
            pgbosun_backup::Error::Postgres(error) => error.into(),
            pgbosun_backup::Error::Repository(error) => error.into(),
            error => {
                let cause = if error.is_transient() { Cause::Passing } else { Cause::Lasting };
                told(error, cause)
            }
        }
    }
}

impl From<pgbosun_history::Error> for JobError {
    fn from(error: pgbosun_history::Error) -> Self {
        told(error, Cause::Passing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::human::chain;
    use std::{error::Error as _, io};

    #[test]
    fn an_error_of_the_system_decides_whether_a_try_is_worth_it() {
        let failure = |kind: io::ErrorKind| JobError::lasting("cannot look").because(io::Error::new(kind, "no answer"));
        let away = failure(io::ErrorKind::TimedOut);
        assert!(away.is_transient() && !failure(io::ErrorKind::PermissionDenied).is_transient());
        assert_eq!(chain(&away), "cannot look: no answer");
        assert!(away.source().is_some_and(|source| source.is::<io::Error>()));
        // What is known to pass does, whatever it comes from.
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(JobError::passing("no answer").because(denied).is_transient());
        assert!(!JobError::lasting("cannot look").because("in words").is_transient());
    }

    #[test]
    fn an_error_of_a_server_stays_one_within_a_backup() {
        let away = || pgbosun_postgres::Error::Connect { target: "db".into(), source: "nobody answered".into() };
        for failure in [JobError::from(away()), pgbosun_backup::Error::from(away()).into()] {
            assert!(failure.is_unreachable() && failure.is_transient());
            assert!(failure.source().is_some_and(|source| source.is::<pgbosun_postgres::Error>()));
            assert_eq!(chain(&failure), "connect to db: nobody answered");
        }
    }
}
