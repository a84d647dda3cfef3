//! What every part of the daemon shares: configuration, journal, running runs. Commands without a daemon use it too.

use crate::{
    api::Restorable,
    error::{Error, chain},
    heartbeats::Heartbeats,
    holdings::{PATIENCE, SERVES, Seen},
    latest_metrics::LatestMetrics,
    reads::Reads,
    wal::Receivers,
};
use chrono::{DateTime, Utc};
use pgbosun_backup::Progress;
use pgbosun_core::{
    config::{Config, Job},
    outcome::AuditRecord,
};
use pgbosun_history::{Actor, Journal};
use pgbosun_jobs::ClusterConnection;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// A run that is queued or at work.
#[derive(Clone, Debug)]
pub struct Live {
    /// The run.
    pub id: Uuid,
    /// When it began to wait or to work.
    pub since: DateTime<Utc>,
    /// Ends it.
    pub cancel: CancellationToken,
    /// How far it is.
    pub progress: Arc<Progress>,
}

/// The shared state. All fields are handles.
#[derive(Debug)]
pub struct Engine {
    /// The journal.
    pub journal: Journal,
    /// The configuration in force.
    pub config: watch::Sender<Arc<Config>>,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
    /// Where bulk work runs.
    pub bulk: Handle,
    /// What must move.
    pub heartbeats: Arc<Heartbeats>,
    /// Wakes the scheduler.
    pub wake: Arc<Notify>,
    /// Wakes the delivery of messages.
    pub outbox: Notify,
    /// Somebody changed the operators.
    pub operators: Notify,
    /// Every task of a run.
    pub tasks: TaskTracker,
    /// The daemon is stopping.
    pub stop: CancellationToken,
    /// When the daemon started.
    pub started: (DateTime<Utc>, Instant),
    /// Since when `dba_ops` is out of reach, and why.
    pub history_trouble: watch::Sender<Option<(DateTime<Utc>, String)>>,
    /// The receivers of WAL, by cluster.
    pub receivers: Receivers,
    /// What jobs measured last.
    pub latest_metrics: LatestMetrics,
    /// What each repository holds.
    pub(crate) held: Reads<Seen>,
    /// What a restore of each cluster can reach.
    pub(crate) reaches: Reads<Option<Restorable>>,
    live: Mutex<HashMap<String, Live>>,
    connections: Mutex<HashMap<String, Arc<ClusterConnection>>>,
}

impl Engine {
    /// An engine on an open journal.
    pub fn new(config: Config, journal: Journal, bulk: Handle) -> Arc<Self> {
        let clock = pgbosun_core::clock::now;
        Arc::new(Self {
            journal,
            config: watch::Sender::new(Arc::new(config)),
            clock,
            bulk,
            heartbeats: Arc::default(),
            wake: Arc::default(),
            outbox: Notify::new(),
            operators: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            started: (clock(), Instant::now()),
            history_trouble: watch::Sender::new(None),
            receivers: Receivers::default(),
            latest_metrics: LatestMetrics::default(),
            held: Reads::new(PATIENCE, Duration::ZERO),
            reaches: Reads::new(PATIENCE, SERVES),
            live: Mutex::default(),
            connections: Mutex::default(),
        })
    }

    /// Writes down who did something and what came of it, and hands that on. That it could not be written down is logged: what was done
    /// is done.
    ///
    /// # Errors
    /// Those of `done`.
    pub async fn audited<T>(&self, who: &Actor, record: AuditRecord, done: Result<T, Error>) -> Result<T, Error> {
        let outcome = match &done {
            Err(error @ (Error::Refused(_) | Error::Configuration(_))) => format!("refused: {}", chain(error)),
            Err(error) => format!("failed: {}", chain(error)),
            Ok(_) if record.outcome.is_empty() => "done".to_owned(),
            Ok(_) => record.outcome.clone(),
        };
        if let Err(error) = self.journal.audit(who, record.came(outcome)).await {
            tracing::error!("a change could not be written to the audit log: {}", chain(&error));
        }
        done
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Runs that are queued or at work, by job.
    pub fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the place of a job's only run; the run that has it, where it is taken.
    ///
    /// # Errors
    /// The run in the way.
    pub fn occupy(&self, job: &str, id: Uuid) -> Result<Live, Live> {
        let mut live = self.live();
        if let Some(other) = live.get(job) {
            return Err(other.clone());
        }
        let cancel = self.stop.child_token();
        let entry = Live { id, since: self.now(), cancel, progress: Arc::default() };
        live.insert(job.to_owned(), entry.clone());
        Ok(entry)
    }

    /// Gives the place of a job's run free.
    pub fn vacate(&self, job: &str, id: Uuid) {
        let mut live = self.live();
        if live.get(job).is_some_and(|entry| entry.id == id) {
            live.remove(job);
        }
        drop(live);
        self.wake.notify_one();
    }

    /// The connection that the monitors of a cluster share, one at a time.
    pub fn connection(&self, cluster: Option<&str>) -> Arc<ClusterConnection> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match cluster {
            Some(cluster) => Arc::clone(connections.entry(cluster.to_owned()).or_default()),
            // Without a cluster there is nothing to take turns on.
            None => Arc::default(),
        }
    }

    /// The configured job of this name.
    pub fn job(&self, name: &str) -> Option<Job> {
        self.config().jobs.get(name).cloned()
    }
}
