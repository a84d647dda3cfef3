//! The line to a cluster: one connection, on which its monitors take turns.
//!
//! Invariants: never two monitors on one cluster at a time, nor two connections, but for the moment in which what hangs is
//! cancelled; no answer is awaited for longer than the server's own limit
//! and a little; after a server did not answer, those who wait are told so at once, and do not each try for themselves; what
//! the server does not come to the end of is cancelled there, and its monitor does not ask again before it ended.

use super::Query;
use crate::{JobContext, JobError};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{
    clock,
    config::Cluster,
    detail::Detail,
    finding::{Finding, Severity},
    human,
};
use pgbosun_postgres::{Database, Error, Server};
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, Row, ValueRef, postgres::PgRow};
use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};

/// For so long a server that did not answer is not asked again.
const SILENCE: TimeDelta = TimeDelta::seconds(20);
/// How much longer than the server's own limit an answer may take.
const GRACE: Duration = Duration::from_secs(5);
/// A server counts a connection for a moment after it was closed: so often it is asked again for another, and after so long.
const PLACES: u32 = 4;
const PLACE: Duration = Duration::from_millis(100);

/// The line to one cluster.
#[derive(Debug, Default)]
pub struct Line {
    held: Mutex<Held>,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Held {
    connection: Option<Open>,
    silent: Option<(DateTime<Utc>, String)>,
    /// By job, who was still at work when the time of its look was over.
    stuck: BTreeMap<String, Process>,
}

/// A connection, and who answers on it.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    process: Process,
}

/// A process of the server; its number comes again, but not with the same start.
#[derive(Clone, Debug, sqlx::FromRow)]
struct Process {
    pid: i32,
    since: DateTime<Utc>,
}

/// One look of a monitor: its turn on the line begins with its first question.
pub struct Look<'a> {
    /// The run.
    pub context: &'a JobContext,
    turn: Option<MutexGuard<'a, Held>>,
    unseen: Vec<Finding>,
}

impl<'a> Look<'a> {
    /// A look that has asked nothing yet.
    pub const fn new(context: &'a JobContext) -> Self {
        Self { context, turn: None, unseen: Vec::new() }
    }

    /// Waits for its turn, unless it has it.
    async fn turn(&mut self) -> &mut Held {
        let line = self.context.line.as_ref();
        match &mut self.turn {
            Some(turn) => turn,
            none => {
                line.waiting.fetch_add(1, Ordering::SeqCst);
                let _waits = Waits(line);
                none.insert(line.held.lock().await)
            }
        }
    }

    /// Ends its turn, and says what could not be looked at; the last of a row closes the connection.
    pub async fn end(mut self) -> Vec<Finding> {
        self.release().await;
        self.unseen
    }

    /// Gives its turn back before it ends: what follows asks the server nothing.
    pub async fn release(&mut self) {
        if let Some(mut turn) = self.turn.take()
            && self.context.line.waiting.load(Ordering::SeqCst) == 0
        {
            turn.hang_up().await;
        }
    }

    /// Tells that something of the whole cannot be looked at: what is wrong there is not known.
    pub fn unseen(&mut self, object: &str, summary: impl Into<String>, advice: &str, reason: &str) {
        self.unseen.push(
            Finding::new(Severity::Unknown, object, summary)
                .meaning("Problems there go unnoticed.")
                .advice(advice)
                .detail(Detail::error(reason)),
        );
    }

    /// The rows of a query on the cluster's own database.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn rows<T>(&mut self, query: &Query) -> Result<Vec<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.own(query, &[]).await
    }

    /// The same, with the parameters of the statement.
    async fn own<T>(&mut self, query: &Query, limits: &[f64]) -> Result<Vec<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let server = self.server()?;
        // Not put back after an error: whatever is wrong with it, the next one begins anew.
        let mut open = self.connection(&server).await?;
        let rows = self.ask(&mut open, &server, query, limits).await?;
        self.turn().await.connection = Some(open);
        Ok(rows)
    }

    /// The rows of a query that the role may not ask perhaps: then that is told, with what to grant, and there are none.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn rows_if_allowed<T>(&mut self, query: &Query, grant: &str) -> Result<Option<Vec<T>>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        match self.rows(query).await {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if error.is_refused() => {
                self.unseen(query.what, format!("the role may not {}", query.what), grant, &human::chain(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The row of a query that has exactly one.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn row<T>(&mut self, query: &Query) -> Result<T, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let row = self.rows(query).await?.pop();
        row.ok_or_else(|| JobError::lasting(format!("cannot {}: the server returned no row", query.what)))
    }

    /// The rows of a query in every database that can be connected to, with the database's name: one after the other. What
    /// cannot be looked at in one says nothing about the others; where one takes too long, those after it are left for the next
    /// look, since others wait for the line.
    ///
    /// # Errors
    /// Where none can be asked, or the server is away.
    pub async fn everywhere<T>(&mut self, query: &Query, limits: &[f64]) -> Result<Vec<(String, T)>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        const DATABASES: Query = Query { what: "list the databases", sql: pgbosun_postgres::DATABASES };
        let databases = Database::at_work(self.rows(&DATABASES).await?);
        let (mut found, mut seen, mut first) = (Vec::new(), false, None);
        let mut databases = databases.into_iter();
        while let Some(Database { name, own, .. }) = databases.next() {
            let rows = match own {
                true => self.own(query, limits).await.map(Some),
                false => self.within(&name, query, limits).await,
            };
            match rows {
                Ok(rows) => {
                    seen = true;
                    found.extend(rows.into_iter().flatten().map(|row| (name.clone(), row)));
                }
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => {
                    let object = format!("database {name}");
                    let summary = format!("{object} cannot be checked");
                    self.unseen(&object, summary, what_helps(&error), &human::chain(&error));
                    if error.is_slow() {
                        let left = databases.by_ref().count();
                        if left > 0 {
                            let summary = format!("{} after {name} not checked", human::count(left, "database"));
                            let advice = "See why the server is slow, or give it more time (statement-timeout).";
                            self.unseen("databases", summary, advice, "the one before took too long");
                        }
                    }
                    first = first.or(Some(error));
                }
            }
        }
        match first {
            Some(error) if !seen => Err(error),
            _ => Ok(found),
        }
    }

    /// The rows of a query in another database than the cluster's own, or none where it is not there any more.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn within<T>(&mut self, database: &str, query: &Query, limits: &[f64]) -> Result<Option<Vec<T>>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let server = self.server_with(Some(database))?;
        let mut open = match self.turn().await.anew(&server).await {
            Ok(open) => open,
            Err(error) if error.is_missing_database() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.is_free(&mut open.connection).await?;
        let rows = self.ask(&mut open, &server, query, limits).await?;
        close(open).await;
        Ok(Some(rows))
    }

    /// A connection of its own, made now: the time that took, and the server's version.
    ///
    /// # Errors
    /// Why there is none, which those who wait are told too.
    pub async fn connect_anew(&mut self, query: &Query) -> Result<(Duration, String), JobError> {
        let server = self.server()?;
        let turn = self.turn().await;
        turn.hang_up().await;
        turn.silent = None;
        let begun = Instant::now();
        let mut open = self.connection(&server).await?;
        let mut rows: Vec<(String,)> = self.ask(&mut open, &server, query, &[]).await?;
        let took = begun.elapsed();
        self.turn().await.connection = Some(open);
        Ok((took, rows.pop().unwrap_or_default().0))
    }

    /// The major version of the server, as in `server_version_num / 10000`.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn major(&mut self) -> Result<u32, JobError> {
        let server = self.server()?;
        let open = self.connection(&server).await?;
        let version = open.connection.server_version_num().unwrap_or_default() / 10_000;
        self.turn().await.connection = Some(open);
        Ok(version)
    }

    /// The rows of a query of the user's own as text, read only and on a connection of its own.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn text(&mut self, query: &str, database: Option<&str>) -> Result<Vec<Vec<Option<String>>>, JobError> {
        let server = self.server_with(database)?.for_own_sql();
        let failed = |source| Error::Query { what: "run the query".into(), source };
        let Open { mut connection, process } = self.turn().await.anew(&server).await?;
        self.is_free(&mut connection).await?;
        let ask = async {
            sqlx::raw_sql("set default_transaction_read_only = on").execute(&mut connection).await.map_err(failed)?;
            let rows =
                sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut connection).await.map_err(failed)?;
            rows.iter().map(|row| fields(row).map_err(failed)).collect::<Result<Vec<_>, _>>()
        };
        let Some(answer) = within(server.statement_timeout + GRACE, ask).await else {
            return Err(self.give_up(&process, &server, "run the query").await);
        };
        let answer = answer?;
        close(Open { connection, process }).await;
        Ok(answer)
    }

    /// The cluster's data directory, where it is on this machine.
    ///
    /// # Errors
    /// Where it is not configured.
    pub fn data_directory(&self) -> Result<PathBuf, JobError> {
        self.configured("data-directory", |cluster| cluster.data_directory.clone())
    }

    /// The directory of the cluster's logs, where it is on this machine.
    ///
    /// # Errors
    /// Where it is not configured.
    pub fn log_directory(&self) -> Result<PathBuf, JobError> {
        self.configured("log-directory", |cluster| cluster.log_directory.clone())
    }

    fn configured(&self, key: &str, of: impl Fn(&Cluster) -> Option<PathBuf>) -> Result<PathBuf, JobError> {
        let (name, _) = self.context.cluster()?;
        let directory = self.context.config.clusters.get(name).and_then(of);
        directory.ok_or_else(|| JobError::lasting(format!("cluster {name} has no {key} in the configuration")))
    }

    fn server(&self) -> Result<Server, JobError> {
        self.server_with(None)
    }

    /// The server, through another of its databases than that of the cluster's connection.
    fn server_with(&self, database: Option<&str>) -> Result<Server, JobError> {
        let mut server = self.context.cluster()?.1.clone();
        if let Some(database) = database {
            server.conninfo = server.conninfo.with_database(database);
        }
        Ok(server)
    }

    async fn connection(&mut self, server: &Server) -> Result<Open, JobError> {
        let mut open = self.connected(server).await?;
        self.is_free(&mut open.connection).await?;
        Ok(open)
    }

    async fn connected(&mut self, server: &Server) -> Result<Open, JobError> {
        let turn = self.turn().await;
        if let Some(open) = turn.connection.take() {
            return Ok(open);
        }
        if let Some((at, reason)) = &turn.silent
            && (TimeDelta::zero()..SILENCE).contains(&(clock::now() - *at))
        {
            return Err(JobError::unreachable(reason.clone()));
        }
        match open(server).await {
            Ok(open) => {
                turn.silent = None;
                Ok(open)
            }
            Err(error) => {
                let error = JobError::from(error);
                turn.silent = Some((clock::now(), human::chain(&error)));
                // Whoever watches whether the server is there connects to the same database, and sees the same.
                Err(if error.is_transient() { error.as_unreachable() } else { error })
            }
        }
    }

    /// Asks; `limits` are the parameters of the statement.
    async fn ask<T>(
        &mut self,
        open: &mut Open,
        server: &Server,
        query: &Query,
        limits: &[f64],
    ) -> Result<Vec<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let failed = |source| Error::Query { what: query.what.into(), source };
        let asked = limits.iter().fold(sqlx::query_as(query.sql), |asked, limit| asked.bind(*limit));
        let answer = asked.fetch_all(&mut open.connection);
        match within(server.statement_timeout + GRACE, answer).await {
            Some(answer) => Ok(answer.map_err(failed)?),
            None => Err(self.give_up(&open.process, server, query.what).await),
        }
    }

    /// Makes sure that the server is at work for no earlier look of this job.
    async fn is_free(&mut self, connection: &mut PgConnection) -> Result<(), JobError> {
        const WHAT: &str = "look for a process left running by an earlier check";
        let job = &self.context.job;
        let stuck = &mut self.turn().await.stuck;
        let Some(Process { pid, since }) = stuck.get(job) else { return Ok(()) };
        let asked = sqlx::query_scalar(include_str!("line/stuck.sql")).bind(pid).bind(since).fetch_one(connection);
        let Some(there) = within(GRACE, asked).await else {
            return Err(Error::Timeout { what: WHAT.into(), limit: GRACE }.into());
        };
        if there.map_err(|source| Error::Query { what: WHAT.into(), source })? {
            return Err(JobError::lasting(format!(
                "server process {pid} is still running an earlier check that took too long and was cancelled: \
                 the next check starts once it has ended"
            )));
        }
        stuck.remove(job);
        Ok(())
    }

    /// Has the server end, if it can, what took too long, and remembers who was at work.
    async fn give_up(&mut self, process: &Process, server: &Server, what: &str) -> JobError {
        let job = self.context.job.clone();
        self.turn().await.stuck.insert(job, process.clone());
        let cancel = async {
            let mut connection = server.connect().await.ok()?;
            let ask = sqlx::query(include_str!("line/cancel.sql")).bind(process.pid).bind(process.since);
            ask.execute(&mut connection).await.ok()?;
            connection.close().await.ok()
        };
        let _ = within(GRACE, cancel).await;
        Error::Timeout { what: what.into(), limit: server.statement_timeout + GRACE }.into()
    }
}

impl Held {
    /// Closes the connection, if there is one.
    async fn hang_up(&mut self) {
        if let Some(open) = self.connection.take() {
            close(open).await;
        }
    }

    /// A connection in place of the one there was.
    async fn anew(&mut self, server: &Server) -> Result<Open, Error> {
        self.hang_up().await;
        open(server).await
    }
}

async fn close(open: Open) {
    let _ = within(GRACE, open.connection.close()).await;
}

async fn open(server: &Server) -> Result<Open, Error> {
    const WHAT: &str = "ask who answers";
    let mut asked = 1;
    let mut connection = loop {
        match server.connect().await {
            Err(error) if error.is_full() && asked < PLACES => tokio::time::sleep(PLACE * asked).await,
            answer => break answer?,
        }
        asked += 1;
    };
    let asked = sqlx::query_as(include_str!("line/process.sql")).fetch_one(&mut connection);
    match within(server.connect_timeout, asked).await {
        Some(process) => {
            let process = process.map_err(|source| Error::Query { what: WHAT.into(), source })?;
            Ok(Open { connection, process })
        }
        None => Err(Error::Timeout { what: WHAT.into(), limit: server.connect_timeout }),
    }
}

/// Counts who waits, whatever becomes of the waiting.
struct Waits<'a>(&'a Line);

/// What helps against that one database cannot be looked into.
fn what_helps(error: &JobError) -> &'static str {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match cause {
        Some(pgbosun_postgres::Error::Connect { .. }) => {
            "Let the role connect (pg_hba.conf, connection limit), or drop the database if an interrupted DROP left it."
        }
        _ if error.is_slow() => "See why the server is slow there, or give it more time (statement-timeout).",
        _ if error.is_refused() => "Grant the role what it was refused.",
        _ => "The server refused the query: the error says why, and its log may say more.",
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn fields(row: &PgRow) -> Result<Vec<Option<String>>, sqlx::Error> {
    let field = |index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(None);
        }
        value.as_str().map(|text| Some(text.to_owned())).map_err(sqlx::Error::Decode)
    };
    (0..row.len()).map(field).collect()
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
