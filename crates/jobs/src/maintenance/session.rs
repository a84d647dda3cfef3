//! A database at work: one connection that watches, and one that works: the first one reports how far the second is, and
//! cancels it. Where there is nothing to do the second one is never opened.
//!
//! Invariants: when [`MaintenanceSession::execute`] returns, the server does nothing of it any more; should this program be gone, the server
//! ends the statement by itself a little after the end of the run. Both connections are to the same server.

mod watch;
mod work;

use super::run::MaintenanceRun;
use crate::JobError;
use pgbosun_core::human;
use pgbosun_postgres::{Error, Extension, Server};
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, Row, postgres::PgRow};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use watch::{cancel, end_backend, step, waits_for};
use work::Work;

/// How often it is asked how far a statement is.
const TICK: Duration = Duration::from_secs(2);
/// How long a cancelled statement may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A database at work.
pub(super) struct MaintenanceSession {
    /// The database.
    pub database: String,
    /// The server's major version.
    pub major: u32,
    server: Server,
    lock_timeout: Duration,
    watch: PgConnection,
    work: Option<Work>,
}

/// How a statement ended that did not break the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// As it should.
    Done,
    /// It waited for a lock as long as it may.
    Locked,
    /// The server found what it checked damaged, in its words.
    Damaged(String),
    /// It waited for others to end as long as it may.
    Behind(String),
    /// It was cancelled, for this reason.
    Cancelled(String),
    /// The server has no room for it, in its words.
    Full(String),
    /// What it was about is not there any more.
    Gone,
    /// The role may not do it.
    Refused(String),
    /// The server's words.
    Failed(String),
}

/// How long a statement may take, and wait.
struct Limits<F> {
    /// Ends when it is to be cancelled, and says why.
    over: F,
    /// How long it may take at the most, of which the server takes care.
    longest: Duration,
    /// How long it may wait for its table, and for others to end, where the server does not see to that itself.
    waits: Option<(Duration, Duration)>,
}

impl MaintenanceSession {
    /// Connects to a database.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub async fn open(server: &Server, database: &str, lock_timeout: Duration) -> Result<Self, Error> {
        let mut server = server.clone();
        server.conninfo = server.conninfo.with_database(database);
        let mut last = Error::Conninfo("no host".into());
        for host in server.conninfo.hosts.clone() {
            match Self::open_at(server.at(&host), database, lock_timeout).await {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open_at(server: Server, database: &str, lock_timeout: Duration) -> Result<Self, Error> {
        let watch = server.connect().await?;
        let major = watch.server_version_num().unwrap_or_default() / 10_000;
        Ok(Self { database: database.to_owned(), major, server, lock_timeout, watch, work: None })
    }

    /// Ends both connections.
    pub async fn close(self) {
        let _ = tokio::time::timeout(PATIENCE, async {
            if let Some(work) = self.work {
                let _ = work.connection.close().await;
            }
            let _ = self.watch.close().await;
        })
        .await;
    }

    /// The rows of a query, on the connection that watches.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn rows<T>(&mut self, what: &'static str, sql: &'static str) -> Result<Vec<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(sqlx::query_as(sql).fetch_all(&mut self.watch).await.map_err(failed(what))?)
    }

    /// The same with a number in the query: an object, a size.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn rows_of<T>(&mut self, what: &'static str, sql: &'static str, number: i64) -> Result<Vec<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(sqlx::query_as(sql).bind(number).fetch_all(&mut self.watch).await.map_err(failed(what))?)
    }

    /// What is known of one object, where it is still there.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn row_of<T>(&mut self, what: &'static str, sql: &'static str, oid: i64) -> Result<Option<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(self.rows_of(what, sql, oid).await?.pop())
    }

    /// What is known of one object by its name, where it is still there.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn row_named<T>(
        &mut self,
        what: &'static str,
        sql: &'static str,
        name: &str,
    ) -> Result<Option<T>, JobError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(sqlx::query_as(sql).bind(name).fetch_optional(&mut self.watch).await.map_err(failed(what))?)
    }

    /// The schema of an extension and the functions it has there, where it is installed.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn extension(&mut self, name: &str) -> Result<Option<Extension>, JobError> {
        Ok(Extension::find(&mut self.watch, name).await?)
    }

    /// Makes a setting of the connection that works.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn set(&mut self, setting: &str) -> Result<(), JobError> {
        Ok(Work::of(&mut self.work, &self.server, self.lock_timeout).await?.set(setting).await?)
    }

    /// Executes a statement, and tells how far it is; at the end of the run it is cancelled on the server.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn execute(&mut self, statement: &str, run: &MaintenanceRun<'_>) -> Result<Ended, JobError> {
        Ok(self.ask(statement, run).await?.0)
    }

    /// The same for a statement that answers: the first column of its rows.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn ask(&mut self, statement: &str, run: &MaintenanceRun<'_>) -> Result<(Ended, Vec<String>), JobError> {
        let limits = Limits { over: run.over(), longest: run.left() + 2 * PATIENCE, waits: None };
        self.run(statement, run, limits).await
    }

    /// Executes a statement that others wait for meanwhile: the server ends it after so long.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn execute_within(
        &mut self,
        statement: &str,
        run: &MaintenanceRun<'_>,
        longest: Duration,
    ) -> Result<Ended, JobError> {
        let limits = Limits { over: run.over(), longest, waits: None };
        Ok(self.run(statement, run, limits).await?.0)
    }

    /// Executes a statement that waits for its table, behind which others would wait, only so long, and longer for others to
    /// end, behind which only those wait who change the table or vacuum it.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn execute_patiently(
        &mut self,
        statement: &str,
        run: &MaintenanceRun<'_>,
        (table, others): (Duration, Duration),
    ) -> Result<Ended, JobError> {
        self.set("lock_timeout = 0").await?;
        let longest = run.left() + 2 * PATIENCE;
        let limits = Limits { over: run.over(), longest, waits: Some((table, others)) };
        let (ended, _) = self.run(statement, run, limits).await?;
        self.set(&format!("lock_timeout = {}", table.as_millis())).await?;
        Ok(ended)
    }

    /// Executes a statement that has to be tried whatever the time, and not for long: what an interrupted one left is removed.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn tidy(&mut self, statement: &str, run: &MaintenanceRun<'_>) -> Result<Ended, JobError> {
        let over = async {
            tokio::time::sleep(PATIENCE / 2).await;
            "it did not finish in time; the next run tries again".to_owned()
        };
        let limits = Limits { over, longest: 2 * PATIENCE, waits: None };
        Ok(self.run(statement, run, limits).await?.0)
    }

    async fn run(
        &mut self,
        statement: &str,
        run: &MaintenanceRun<'_>,
        limits: Limits<impl Future<Output = String>>,
    ) -> Result<(Ended, Vec<String>), JobError> {
        let Self { database, server, lock_timeout, watch, work, .. } = self;
        let progress = &run.context.progress;
        progress.step(format!("{database}: {statement}"), 0);
        let work = Work::of(work, server, *lock_timeout).await?;
        // Should nobody be there to cancel it.
        let longest = limits.longest.as_millis().clamp(1, i32::MAX as u128);
        work.set(&format!("statement_timeout = {longest}")).await?;
        let Work { connection, pid } = work;
        let begun = Instant::now();
        let mut work = std::pin::pin!(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(connection));
        let mut over = std::pin::pin!(limits.over);
        let mut reason: Option<(Ended, Instant)> = None;
        let mut waits_since = None;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        let done = loop {
            let why = tokio::select! {
                done = &mut work => break done,
                why = &mut over, if reason.is_none() => Some(Ended::Cancelled(why)),
                _ = tick.tick() => {
                    if let Some(step) = step(watch, *pid).await {
                        progress.detail(step);
                    }
                    if reason.as_ref().is_some_and(|(_, since)| since.elapsed() > PATIENCE) {
                        end_backend(watch, server, *pid).await;
                        let words = format!(
                            "the server did not stop a cancelled statement, so its session was terminated: {statement}"
                        );
                        return Err(JobError::passing(words));
                    }
                    match limits.waits {
                        Some((table, others)) if reason.is_none() => {
                            let waits = waits_for(watch, *pid).await;
                            let for_table = waits.as_deref() == Some("relation");
                            // The one wait ends the other.
                            waits_since = waits.map(|_| match waits_since {
                                Some((was, since)) if was == for_table => (was, since),
                                _ => (for_table, Instant::now()),
                            });
                            waits_since.and_then(|(for_table, since)| {
                                let limit = if for_table { table } else { others };
                                let words = || format!("other transactions did not end within {}", human::duration(others));
                                let ended = || if for_table { Ended::Locked } else { Ended::Behind(words()) };
                                (since.elapsed() >= limit).then(ended)
                            })
                        }
                        _ => None,
                    }
                }
            };
            if let Some(why) = why {
                tracing::info!(after = human::duration(begun.elapsed()), "cancelling on the server: {statement}");
                cancel(watch, server, *pid).await;
                reason = Some((why, Instant::now()));
            }
        };
        progress.step("", 0);
        match done {
            Ok(rows) => Ok((Ended::Done, rows.iter().filter_map(|row| row.try_get(0).ok()).collect())),
            Err(error) => Ok((ended(error, reason.map(|(why, _)| why))?, Vec::new())),
        }
    }
}

/// What an error of the server means; those that end the run stay errors.
fn ended(error: sqlx::Error, reason: Option<Ended>) -> Result<Ended, JobError> {
    let sqlx::Error::Database(refusal) = &error else {
        return Err(failed("work")(error).into());
    };
    let words = refusal.message().to_owned();
    Ok(match refusal.code().as_deref().unwrap_or_default() {
        "55P03" | "40P01" => Ended::Locked,
        "57014" => reason.unwrap_or(Ended::Cancelled(words)),
        "42P01" | "42704" | "3F000" | "3D000" => Ended::Gone,
        "42501" => Ended::Refused(words),
        // What cannot be read, and what makes no sense.
        "58030" | "58P01" => Ended::Damaged(words),
        code if code.starts_with("XX") => Ended::Damaged(words),
        "53100" | "53200" => Ended::Full(words),
        // What only this statement was too large for.
        "53400" => Ended::Failed(words),
        // The connection, its end by others: the next statement would fare no better.
        code if ["08", "57P", "53"].iter().any(|class| code.starts_with(class)) => {
            return Err(failed("work")(error).into());
        }
        _ => Ended::Failed(words),
    })
}

fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::Query { what: what.into(), source }
}
