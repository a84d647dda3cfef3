//! What keeps the daemon from starting or a command from being done.

pub use pgbosun_core::human::chain;
use std::path::PathBuf;

/// An error of the daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong; the words are one line a problem.
    #[error("{0}")]
    Configuration(#[from] pgbosun_core::config::Problems),
    /// The journal or `dba_ops`.
    #[error(transparent)]
    History(#[from] pgbosun_history::Error),
    /// The control socket cannot be made.
    #[error("control socket {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// tokio-cron-scheduler said no.
    #[error("alarm clock: {0}")]
    Alarm(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// The operating system said no.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
    /// A backup, an archive or a restore.
    #[error(transparent)]
    Backup(#[from] pgbosun_backup::Error),
    /// A repository.
    #[error(transparent)]
    Repository(#[from] pgbosun_repository::Error),
    /// A server.
    #[error(transparent)]
    Postgres(#[from] pgbosun_postgres::Error),
    /// A job, or what does a job's work.
    #[error(transparent)]
    Job(#[from] pgbosun_jobs::JobError),
    /// A task of ours came to no end, which is a fault of pgbosun.
    #[error("{0} ended unexpectedly")]
    BrokeOff(&'static str, #[source] tokio::task::JoinError),
    /// What was asked for cannot be done; the words say why and what would work.
    #[error("{0}")]
    Refused(String),
}
