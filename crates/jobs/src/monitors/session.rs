//! One check of a monitor, as it asks the server.
//!
//! Invariants: no answer is awaited for longer than the server's own limit and a little. A query that the server does not come to the
//! end of is cancelled there, and its monitor does not ask again before that query has ended.

use super::Query;
use crate::{
    JobContext, JobError,
    connection::{BackendProcess, GRACE, OpenConnection, State, within},
};
use pgbosun_core::{
    config::Cluster,
    detail::Detail,
    finding::{Finding, Severity},
    human,
};
use pgbosun_postgres::{Database, Error, Server};
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, Row, ValueRef, postgres::PgRow};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::sync::MutexGuard;

/// One check of a monitor. From its first query to its end it has the cluster's connection for itself.
pub struct MonitorSession<'a> {
    /// The run.
    pub context: &'a JobContext,
    guard: Option<MutexGuard<'a, State>>,
    unseen: Vec<Finding>,
}

impl<'a> MonitorSession<'a> {
    /// A check that has asked nothing yet.
    pub const fn new(context: &'a JobContext) -> Self {
        Self { context, guard: None, unseen: Vec::new() }
    }

    /// Waits until no other monitor uses the connection, unless it has it already.
    async fn acquire(&mut self) -> &mut State {
        match &mut self.guard {
            Some(guard) => guard,
            none => none.insert(self.context.connection.acquire().await),
        }
    }

    /// Releases the connection, and says what could not be checked.
    pub async fn end(mut self) -> Vec<Finding> {
        self.release().await;
        self.unseen
    }

    /// Releases the connection before the check ends: what follows asks the server nothing. Where nobody waits for it, it is closed.
    pub async fn release(&mut self) {
        if let Some(mut guard) = self.guard.take()
            && self.context.connection.is_idle()
        {
            guard.close().await;
        }
    }

    /// Tells that something of the whole cannot be checked: what is wrong there is not known.
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
        // Not put back after an error: whatever is wrong with it, the next one connects anew.
        let mut open = self.connection(&server).await?;
        let rows = self.ask(&mut open, &server, query, limits).await?;
        self.acquire().await.connection = Some(open);
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
    /// cannot be checked in one says nothing about the others; where one takes too long, those after it are left for the next
    /// check, since others wait for the connection.
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
        let mut open = match self.acquire().await.reopen(&server).await {
            Ok(open) => open,
            Err(error) if error.is_missing_database() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.is_free(&mut open.connection).await?;
        let rows = self.ask(&mut open, &server, query, limits).await?;
        open.close().await;
        Ok(Some(rows))
    }

    /// A connection of its own, made now: the time that took, and the server's version.
    ///
    /// # Errors
    /// Why there is none, which those who wait are told too.
    pub async fn reconnect(&mut self, query: &Query) -> Result<(Duration, String), JobError> {
        let server = self.server()?;
        let state = self.acquire().await;
        state.close().await;
        state.silent = None;
        let begun = Instant::now();
        let mut open = self.connection(&server).await?;
        let mut rows: Vec<(String,)> = self.ask(&mut open, &server, query, &[]).await?;
        let took = begun.elapsed();
        self.acquire().await.connection = Some(open);
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
        self.acquire().await.connection = Some(open);
        Ok(version)
    }

    /// The rows of a query of the user's own as text, read only and on a connection of its own.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn text(&mut self, query: &str, database: Option<&str>) -> Result<Vec<Vec<Option<String>>>, JobError> {
        let server = self.server_with(database)?.for_own_sql();
        let failed = |source| Error::Query { what: "run the query".into(), source };
        let OpenConnection { mut connection, process } = self.acquire().await.reopen(&server).await?;
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
        OpenConnection { connection, process }.close().await;
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

    async fn connection(&mut self, server: &Server) -> Result<OpenConnection, JobError> {
        let mut open = self.acquire().await.connected(server).await?;
        self.is_free(&mut open.connection).await?;
        Ok(open)
    }

    /// Asks; `limits` are the parameters of the statement.
    async fn ask<T>(
        &mut self,
        open: &mut OpenConnection,
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

    /// Makes sure that the server is at work for no earlier check of this job.
    async fn is_free(&mut self, connection: &mut PgConnection) -> Result<(), JobError> {
        const WHAT: &str = "look for a process left running by an earlier check";
        let job = &self.context.job;
        let stuck = &mut self.acquire().await.stuck;
        let Some(BackendProcess { pid, since }) = stuck.get(job) else { return Ok(()) };
        let asked = sqlx::query_scalar(include_str!("session/stuck.sql")).bind(pid).bind(since).fetch_one(connection);
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
    async fn give_up(&mut self, process: &BackendProcess, server: &Server, what: &str) -> JobError {
        let job = self.context.job.clone();
        self.acquire().await.stuck.insert(job, process.clone());
        let cancel = async {
            let mut connection = server.connect().await.ok()?;
            let ask = sqlx::query(include_str!("session/cancel.sql")).bind(process.pid).bind(process.since);
            ask.execute(&mut connection).await.ok()?;
            connection.close().await.ok()
        };
        let _ = within(GRACE, cancel).await;
        Error::Timeout { what: what.into(), limit: server.statement_timeout + GRACE }.into()
    }
}

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
