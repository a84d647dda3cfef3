//! The one connection to a cluster that its monitors share, one at a time.
//!
//! Invariants: never two monitors on one cluster at a time, nor two connections, except for the moment in which a query that hangs
//! is cancelled. After a server did not answer, monitors that wait get the same error at once, and do not each try again.

use crate::JobError;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{clock, human};
use pgbosun_postgres::{Error, Server};
use sqlx::{Connection, PgConnection};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::sync::{Mutex, MutexGuard};

/// For so long a server that did not answer is not asked again.
const SILENCE: TimeDelta = TimeDelta::seconds(20);
/// How much longer than the server's own limit an answer may take.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// A server counts a connection for a moment after it was closed: how often another is attempted, and the pause before.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// The connection to one cluster.
#[derive(Debug, Default)]
pub struct ClusterConnection {
    state: Mutex<State>,
    waiting: AtomicUsize,
}

impl ClusterConnection {
    /// Waits until no other monitor uses it.
    pub(crate) async fn acquire(&self) -> MutexGuard<'_, State> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(self);
        self.state.lock().await
    }

    /// Nobody waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }
}

/// Counts who waits, whatever becomes of the waiting.
struct Waiting<'a>(&'a ClusterConnection);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What one monitor leaves for the next.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub connection: Option<OpenConnection>,
    /// When the server did not answer, and why.
    pub silent: Option<(DateTime<Utc>, String)>,
    /// By job, the process that was still at work when the time of its check was over.
    pub stuck: BTreeMap<String, BackendProcess>,
}

/// A connection, and who answers on it.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub connection: PgConnection,
    pub process: BackendProcess,
}

/// A process of the server; its number comes again, but not with the same start.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct BackendProcess {
    pub pid: i32,
    pub since: DateTime<Utc>,
}

impl State {
    /// The connection there is, or a new one.
    pub async fn connected(&mut self, server: &Server) -> Result<OpenConnection, JobError> {
        if let Some(open) = self.connection.take() {
            return Ok(open);
        }
        if let Some((at, reason)) = &self.silent
            && (TimeDelta::zero()..SILENCE).contains(&(clock::now() - *at))
        {
            return Err(JobError::unreachable(reason.clone()));
        }
        match open(server).await {
            Ok(open) => {
                self.silent = None;
                Ok(open)
            }
            Err(error) => {
                let error = JobError::from(error);
                self.silent = Some((clock::now(), human::chain(&error)));
                // Whoever watches whether the server is there connects to the same database, and sees the same.
                Err(if error.is_transient() { error.as_unreachable() } else { error })
            }
        }
    }

    /// A new connection in place of the one there was.
    pub async fn reopen(&mut self, server: &Server) -> Result<OpenConnection, Error> {
        self.close().await;
        open(server).await
    }

    /// Closes the connection, if there is one.
    pub async fn close(&mut self) {
        if let Some(open) = self.connection.take() {
            open.close().await;
        }
    }
}

impl OpenConnection {
    /// Closes it, without waiting for a server that does not listen.
    pub async fn close(self) {
        let _ = within(GRACE, self.connection.close()).await;
    }
}

async fn open(server: &Server) -> Result<OpenConnection, Error> {
    const WHAT: &str = "ask who answers";
    let mut attempt = 1;
    let mut connection = loop {
        match server.connect().await {
            Err(error) if error.is_full() && attempt < ATTEMPTS => tokio::time::sleep(PAUSE * attempt).await,
            answer => break answer?,
        }
        attempt += 1;
    };
    let asked = sqlx::query_as(include_str!("connection/process.sql")).fetch_one(&mut connection);
    match within(server.connect_timeout, asked).await {
        Some(process) => {
            let process = process.map_err(|source| Error::Query { what: WHAT.into(), source })?;
            Ok(OpenConnection { connection, process })
        }
        None => Err(Error::Timeout { what: WHAT.into(), limit: server.connect_timeout }),
    }
}

/// The result of work, unless it takes longer.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
