//! One run of a maintenance job: its budget of time, the databases it works in, and the rows it leaves.

use super::session::{Ended, MaintenanceSession};
use crate::{JobContext, JobError};
use pgbosun_core::{
    clock,
    detail::{Detail, Value},
    finding::{Finding, Severity},
    human,
    maintenance::{Action, Ending, MaintenanceRecord},
    outcome::{Outcome, Record},
};
use pgbosun_postgres::{Error, Server};
use sqlx::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What a job's own timeout is beyond its budget: for what has to be tidied up.
pub(super) const AFTER_BUDGET: Duration = Duration::from_secs(300);

/// One run of a maintenance job.
pub(super) struct MaintenanceRun<'a> {
    /// What the run was given.
    pub context: &'a JobContext,
    budget: Duration,
    begun: Instant,
    lock_timeout: Duration,
    session: Option<MaintenanceSession>,
    rows: Vec<MaintenanceRecord>,
    statements: Vec<String>,
    /// What would be left out.
    omitted: Vec<String>,
    /// Databases that could not be entered, and why.
    closed: BTreeMap<String, String>,
    /// Why nothing more is begun, before the budget is used up.
    stopped: Option<String>,
    /// Tables whose statistics the role may not see.
    unseen: BTreeSet<String>,
    /// Which of the rows are about what was left out since others were in the way.
    behind: Vec<usize>,
}

/// What was done to an object, or is not.
pub(super) struct MaintenanceTarget<'a> {
    /// Database.
    pub database: &'a str,
    /// Table or index, as SQL names it.
    pub object: &'a str,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: &'a str,
    /// Its size.
    pub bytes: u64,
}

impl<'a> MaintenanceRun<'a> {
    /// Begins; the budget counts from now.
    pub fn new(context: &'a JobContext, budget: Duration, lock_timeout: Duration) -> Self {
        let (session, rows, statements, closed) = (None, Vec::new(), Vec::new(), BTreeMap::new());
        let (omitted, stopped, unseen, behind) = (Vec::new(), None, BTreeSet::new(), Vec::new());
        let begun = Instant::now();
        Self {
            context,
            budget,
            begun,
            lock_timeout,
            session,
            rows,
            statements,
            omitted,
            closed,
            stopped,
            unseen,
            behind,
        }
    }

    fn server(&self) -> Result<&'a Server, JobError> {
        self.context.cluster().map(|(_, server)| server)
    }

    /// The databases there are, of those that are wanted, and whether the server is a standby.
    pub async fn databases(&self, wanted: &[String]) -> Result<(Vec<String>, bool), JobError> {
        let mut connection = self.server()?.connect().await?;
        let failed = |source| Error::Query { what: "list the databases".into(), source };
        let standby: bool = sqlx::query_scalar("select pg_catalog.pg_is_in_recovery()")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let names: Vec<pgbosun_postgres::Lossy> =
            sqlx::query_scalar(pgbosun_postgres::DATABASES).fetch_all(&mut connection).await.map_err(failed)?;
        let names: Vec<String> = names.into_iter().map(String::from).collect();
        let _ = connection.close().await;
        if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
            return Err(JobError::lasting(format!("database {missing} does not exist or does not allow connections")));
        }
        let chosen = names.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
        Ok((chosen, standby))
    }

    /// The same for work that only a primary does.
    pub async fn databases_of_primary(&self, wanted: &[String]) -> Result<Option<Vec<String>>, JobError> {
        let (databases, standby) = self.databases(wanted).await?;
        Ok((!standby).then_some(databases))
    }

    /// The session in a database; the last one's stays as long as nobody asks for another. `None` where the database is gone,
    /// or does not let us in.
    pub async fn session(&mut self, database: &str) -> Result<Option<&mut MaintenanceSession>, JobError> {
        if self.session.as_ref().is_none_or(|session| session.database != database) {
            self.close().await;
            match MaintenanceSession::open(self.server()?, database, self.lock_timeout).await {
                Ok(session) => self.session = Some(session),
                Err(error) if error.is_missing_database() => return Ok(None),
                // The server is there, and the other databases may be better.
                Err(error) if error.is_answer() => {
                    self.closed.insert(database.to_owned(), human::chain(&error));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.session.as_mut())
    }

    /// Takes the session out for as long as the run itself is needed beside it.
    pub async fn take_session(&mut self, database: &str) -> Result<Option<MaintenanceSession>, JobError> {
        self.session(database).await?;
        Ok(self.session.take())
    }

    /// Puts it back.
    pub fn return_session(&mut self, session: MaintenanceSession) {
        self.session = Some(session);
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// What is left of the budget.
    pub fn left(&self) -> Duration {
        self.budget.saturating_sub(self.begun.elapsed())
    }

    /// Waits for the end of the run; why it ended.
    pub async fn over(&self) -> String {
        tokio::select! {
            () = tokio::time::sleep(self.left()) => self.used_up(),
            () = self.context.cancel.cancelled() => "the run was told to stop".into(),
        }
    }

    fn used_up(&self) -> String {
        format!("the time budget of {} is used up", human::duration(self.budget))
    }

    /// Why a target of work that takes so long is not begun.
    pub fn closed_to(&self, expected: Duration) -> Option<String> {
        if self.context.cancel.is_cancelled() {
            return Some("the run was told to stop".into());
        }
        if let Some(reason) = &self.stopped {
            return Some(reason.clone());
        }
        let left = self.left();
        if left.is_zero() {
            return Some(self.used_up());
        }
        (expected > left).then(|| {
            let (expected, left) = (human::duration(expected), human::duration(left));
            format!("would take about {expected}, but only {left} of the time budget is left")
        })
    }

    /// Whether nothing was done yet but statistics.
    pub fn is_idle(&self) -> bool {
        !self.rows.iter().any(|row| row.result == Ending::Done && row.action != Action::Analyze)
    }

    /// Says what would be done.
    pub fn would(&mut self, database: &str, statement: &str) {
        self.statements.push(format!("{database}: {statement}"));
    }

    /// Writes down what was left out, or says what would be.
    pub fn skip(&mut self, target: &MaintenanceTarget<'_>, reason: impl Into<String>) {
        if self.context.dry_run {
            let MaintenanceTarget { database, object, action, .. } = target;
            self.omitted.push(format!("{database}: {action} {object}: {}", reason.into()));
            return;
        }
        self.record(target, Ending::Skipped, reason.into(), None, None, Duration::ZERO);
    }

    /// The same where others were in the way.
    pub fn skip_behind(&mut self, target: &MaintenanceTarget<'_>, reason: impl Into<String>) {
        self.behind.push(self.rows.len());
        self.skip(target, reason);
    }

    /// Takes down that nobody can tell whether an index of this table is bloated.
    pub fn cannot_see(&mut self, database: &str, table: &str) {
        self.unseen.insert(format!("{database}: {table}"));
    }

    /// Writes down what the role may not do: the server itself would only warn.
    pub fn refuse(&mut self, target: &MaintenanceTarget<'_>) {
        self.skip(target, format!("{REFUSED}: it is not the owner"));
    }

    /// Writes down what was done: how it ended, the size after it, and the WAL written meanwhile.
    pub fn record(
        &mut self,
        target: &MaintenanceTarget<'_>,
        result: Ending,
        reason: String,
        bytes_after: Option<u64>,
        wal_bytes: Option<u64>,
        took: Duration,
    ) {
        let object = format!("{}: {} {}", target.database, target.action, target.object);
        match result {
            Ending::Done => tracing::debug!("{object}: {reason}"),
            Ending::Skipped => tracing::info!("{object} skipped: {reason}"),
            Ending::Failed => tracing::warn!("{object} failed: {reason}"),
        }
        let row = MaintenanceRecord {
            id: Uuid::now_v7(),
            database: target.database.to_owned(),
            object: target.object.to_owned(),
            action: target.action,
            result,
            reason,
            bytes_before: Some(target.bytes),
            bytes_after,
            wal_bytes,
            started_at: clock::now() - took,
            seconds: took.as_secs_f64(),
        };
        self.context.ledger.add(Record::Maintenance(row.clone()));
        self.rows.push(row);
    }

    /// Writes down how a statement ended that did not do what it should.
    pub fn record_ending(&mut self, target: &MaintenanceTarget<'_>, ended: &Ended, took: Duration) {
        if matches!(ended, Ended::Locked | Ended::Behind(_)) {
            self.behind.push(self.rows.len());
        }
        let (result, reason) = match ended {
            Ended::Done => (Ending::Done, target.reason.to_owned()),
            Ended::Locked => {
                let limit = human::duration(self.lock_timeout);
                (Ending::Skipped, format!("could not get its lock within {limit}"))
            }
            Ended::Behind(why) | Ended::Cancelled(why) => (Ending::Skipped, format!("cancelled: {why}")),
            Ended::Gone => (Ending::Skipped, "it no longer exists".into()),
            Ended::Refused(words) => (Ending::Skipped, format!("{REFUSED}: {words}")),
            Ended::Failed(words) | Ended::Damaged(words) => (Ending::Failed, words.clone()),
            Ended::Full(words) => {
                self.stopped = Some(format!("the server ran out of space: {words}"));
                (Ending::Failed, words.clone())
            }
        };
        self.record(target, result, reason, None, None, took);
    }

    /// The end of the run: what is said of it, and its rows, also where it broke off.
    pub async fn end(mut self, worked: Result<(), JobError>, nothing: &str) -> Result<Outcome, JobError> {
        self.close().await;
        let failed = match worked {
            Err(error) if self.rows.is_empty() => return Err(error),
            worked => worked.err().map(|error| human::chain(&error)),
        };
        if self.context.dry_run {
            let (statements, omitted) = (self.statements, self.omitted);
            let mut summary = match statements.len() {
                0 => nothing.to_owned(),
                count => format!("would execute {}:\n{}", human::count(count, "statement"), statements.join("\n")),
            };
            if !omitted.is_empty() {
                summary.push_str(&format!("\nwould skip:\n{}", omitted.join("\n")));
            }
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let summary = summary(&self.rows, nothing);
        let findings = failures(&self.rows).into_iter().chain(refusals(&self.rows)).chain(closed(&self.closed));
        let behind: Vec<_> = self.behind.iter().filter_map(|at| self.rows.get(*at)).collect();
        let findings = findings.chain(unseen(&self.unseen)).chain(left_behind(&behind)).collect();
        Ok(Outcome { summary, findings, failed, ..Outcome::default() })
    }
}

/// How urgent it is, by powers of two: what is about as urgent is worked off database by database, each entered once.
pub(super) fn class(score: f64) -> i32 {
    score.log2().floor() as i32
}

/// How a row begins whose work the role may not do.
pub(super) const REFUSED: &str = "not permitted for this role";

/// Objects with what was to be done to them, and why it was not; the first of them.
fn left_alone(rows: &[&MaintenanceRecord]) -> Detail {
    let rows = rows
        .iter()
        .take(20)
        .map(|row| [Value::of(&row.database), Value::of(row.action), Value::of(&row.object), Value::of(&row.reason)]);
    Detail::new().table(["database", "action", "object", "reason"], rows)
}

/// What the role may not do.
fn refusals(rows: &[MaintenanceRecord]) -> Option<Finding> {
    let refused: Vec<_> = rows.iter().filter(|row| row.reason.starts_with(REFUSED)).collect();
    (!refused.is_empty()).then(|| {
        let summary = format!("this role may not maintain {}", human::count(refused.len(), "object"));
        Finding::new(Severity::Warning, "privileges", summary)
            .meaning("They are skipped in every run.")
            .advice(
                "For vacuum, analyze and reindex, make the role the owner, or from PostgreSQL 17 on \"grant pg_maintain\"; \
                 leftovers of a reindex can only be dropped by their owner. For check, \"grant execute\" on the functions of \
                 amcheck.",
            )
            .detail(left_alone(&refused))
    })
}

/// What others were in the way of.
fn left_behind(rows: &[&MaintenanceRecord]) -> Option<Finding> {
    (!rows.is_empty()).then(|| {
        let summary = format!("{} skipped because others were in the way", human::count(rows.len(), "object"));
        Finding::new(Severity::Warning, "locks", summary)
            .meaning("Another session held a lock or an old transaction open. The next run tries again.")
            .advice(
                "End forgotten sessions, move the job to another hour, or let it wait longer (lock-timeout, patience). \
                 monitor.locks shows who blocks whom.",
            )
            .detail(left_alone(rows))
    })
}

/// Databases that could not be entered.
fn closed(databases: &BTreeMap<String, String>) -> Option<Finding> {
    let rows = databases.iter().map(|(name, reason)| [Value::of(name), Value::of(reason)]);
    (!databases.is_empty()).then(|| {
        let summary = format!("could not connect to {}", human::count(databases.len(), "database"));
        Finding::new(Severity::Warning, "databases", summary)
            .meaning("Nothing in them is maintained.")
            .advice("Let the role connect (pg_hba.conf, connection limit), or list the databases this job works on (databases).")
            .detail(Detail::new().table(["database", "reason"], rows))
    })
}

/// Tables of whose indexes nothing can be said.
fn unseen(tables: &BTreeSet<String>) -> Option<Finding> {
    (!tables.is_empty()).then(|| {
        let summary = format!("this role may not see the statistics of {}", human::count(tables.len(), "table"));
        Finding::new(Severity::Warning, "statistics", summary)
            .meaning("Whether their indexes are bloated is unknown, so they are not rebuilt.")
            .advice("\"grant pg_read_all_data\" to the role, or install pgstattuple and \"grant pg_stat_scan_tables\".")
            .detail(tables.iter().take(20).cloned().collect::<Vec<_>>().join("\n"))
    })
}

/// What the server refused to do; damage is told by who looked for it.
fn failures(rows: &[MaintenanceRecord]) -> Option<Finding> {
    let failed: Vec<_> =
        rows.iter().filter(|row| row.result == Ending::Failed && row.action != Action::Check).collect();
    (!failed.is_empty()).then(|| {
        let summary = format!("{} could not be maintained", human::count(failed.len(), "object"));
        Finding::new(Severity::Warning, "maintenance", summary)
            .meaning("The server refused and nothing changed: bloat grows, or statistics go stale.")
            .advice("See the server's message below; running the same statement by hand shows more.")
            .detail(left_alone(&failed))
    })
}

/// `vacuum: 12 done; reindex: 3 done, 1 skipped; 1.2 GiB freed`.
fn summary(rows: &[MaintenanceRecord], nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let mut actions: BTreeMap<Action, [usize; 3]> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let counts = actions.entry(row.action).or_default();
        counts[row.result as usize] += 1;
        if row.result != Ending::Done {
            *reasons.entry(row.reason.as_str()).or_default() += 1;
        }
    }
    let mut parts: Vec<_> = actions
        .iter()
        .map(|(action, [done, skipped, failed])| {
            let mut part = format!("{action}: {done} done");
            if *skipped > 0 {
                part.push_str(&format!(", {skipped} skipped"));
            }
            if *failed > 0 {
                part.push_str(&format!(", {failed} failed"));
            }
            part
        })
        .collect();
    let freed: u64 = rows
        .iter()
        .filter_map(|row| row.bytes_before.zip(row.bytes_after))
        .map(|(before, after)| before.saturating_sub(after))
        .sum();
    if freed > 0 {
        parts.push(format!("{} freed", human::size(freed)));
    }
    if let Some((reason, count)) = reasons.into_iter().max_by_key(|(_, count)| *count) {
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        parts.push(format!("most common reason for not doing it: {reason}{times}"));
    }
    parts.join("; ")
}
