//! Runs in the journal: claimed, started, ended, each transition in one transaction.

use crate::{
    AlertChange, Error, Journal, NewNotification,
    alerts::{self, Judge},
};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    finding::{Finding, Severity},
    outcome::Record,
    run::{Run, RunState, Trigger},
};
use sqlx::{FromRow, SqliteConnection};
use std::collections::BTreeMap;
use uuid::{Uuid, fmt::Hyphenated};

/// Everything that the end of a run brings, written in one transaction.
pub struct RunEnd {
    /// The run in its final state.
    pub run: Run,
    /// What it found.
    pub findings: Vec<Finding>,
    /// What becomes of the alerts of its job.
    pub judge: Option<Judge>,
    /// Facts.
    pub records: Vec<Record>,
    /// Messages that go with it, beside those that tell of alerts.
    pub messages: Vec<NewNotification>,
    /// What the next run needs to know, if it changed.
    pub state: Option<serde_json::Value>,
}

impl RunEnd {
    /// The end of a run that brings nothing but itself.
    pub fn bare(run: Run) -> Self {
        Self { run, findings: Vec::new(), judge: None, records: Vec::new(), messages: Vec::new(), state: None }
    }
}

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this job alone.
    pub job: Option<String>,
    /// Of this kind of job alone.
    pub kind: Option<String>,
    /// Those due since.
    pub since: Option<DateTime<Utc>>,
    /// Only those not ended.
    pub unfinished: bool,
    /// Only those that failed ([`RunState::is_failure`]).
    pub failed: bool,
    /// Without those of monitors.
    pub without_monitors: bool,
    /// At most so many.
    pub limit: u32,
}

#[derive(FromRow)]
struct RunRow {
    id: Hyphenated,
    job: String,
    kind: String,
    cluster: Option<String>,
    #[sqlx(try_from = "String")]
    trigger: Trigger,
    #[sqlx(try_from = "String")]
    state: RunState,
    scheduled_for: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    attempts: u32,
    summary: String,
    error: Option<String>,
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        let RunRow { id, job, kind, cluster, trigger, state, scheduled_for, started_at, finished_at, .. } = row;
        let (attempts, summary, error) = (row.attempts, row.summary, row.error);
        let id = id.into_uuid();
        Self {
            id,
            job,
            kind,
            cluster,
            trigger,
            state,
            scheduled_for,
            started_at,
            finished_at,
            attempts,
            summary,
            error,
        }
    }
}

const COLUMNS: &str =
    "id, job, kind, cluster, trigger, state, scheduled_for, started_at, finished_at, attempts, summary, error";

/// In SQL, of a run `r`: it counts, since none was begun again for its time (`Run::is_again`).
macro_rules! counts {
    () => {
        "not (r.state = 'interrupted' and exists (select 1 from runs l where l.job = r.job
             and l.scheduled_for = r.scheduled_for and l.id > r.id))"
    };
}
pub(crate) use counts;

/// A condition of SQL: the run is in one of these states.
fn in_state(wanted: impl Fn(RunState) -> bool) -> String {
    let is_wanted = |word: &&&str| word.parse().is_ok_and(&wanted);
    let words: Vec<_> = RunState::WORDS.iter().filter(is_wanted).map(|word| format!("'{word}'")).collect();
    format!("and state in ({})", words.join(", "))
}

impl Journal {
    /// Claims what one pass of the planner found: the runs to start and the rows for times that will not be run,
    /// together with how far each job has been planned. A time that has a row already keeps it: those are left out
    /// of what is returned.
    ///
    /// # Errors
    /// [`Error::Journal`]; then nothing was claimed, and the next pass finds the same.
    pub async fn claim(&self, runs: Vec<Run>, planned: Vec<(String, DateTime<Utc>)>) -> Result<Vec<Run>, Error> {
        self.write(move |connection| {
            Box::pin(async move {
                for (job, until) in planned {
                    sqlx::query("update jobs set looked_until = ? where name = ?")
                        .bind(until)
                        .bind(job)
                        .execute(&mut *connection)
                        .await
                        .map_err(Error::journal("record how far the schedule was checked"))?;
                }
                let mut claimed = Vec::new();
                for run in runs {
                    if insert(connection, &run).await? {
                        claimed.push(run);
                    }
                }
                Ok(claimed)
            })
        })
        .await
    }

    /// Notes that a queued run is at work.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn start_run(&self, id: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("update runs set state = 'running', started_at = ?, attempts = 1 where id = ?")
                    .bind(at)
                    .bind(id.hyphenated())
                    .execute(connection)
                    .await
                    .map(drop)
                    .map_err(Error::journal("start a run"))
            })
        })
        .await
    }

    /// Writes the end of a run with everything that belongs to it; returns the alerts it changed.
    ///
    /// # Errors
    /// [`Error::Journal`]; then nothing of it was written.
    pub async fn end_run(&self, end: RunEnd) -> Result<Vec<AlertChange>, Error> {
        self.write(move |connection| Box::pin(async move { write_end(connection, end).await })).await
    }

    /// The runs that a crash left unfinished, as they will stand once they are written as interrupted.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn unfinished(&self, at: DateTime<Utc>) -> Result<Vec<Run>, Error> {
        let mut runs = self.runs(RunFilter { unfinished: true, limit: u32::MAX, ..RunFilter::default() }).await?;
        for run in &mut runs {
            run.state = RunState::Interrupted;
            run.finished_at = Some(at);
            run.summary = match run.started_at {
                Some(_) => "the daemon ended during this run".into(),
                None => "the daemon ended before this run started".into(),
            };
        }
        Ok(runs)
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>, Error> {
        let query = format!(
            "select {COLUMNS} from runs where (?1 is null or job = ?1) and (?3 is null or kind = ?3)
                 and (?4 is null or scheduled_for >= ?4) {} {} {} order by scheduled_for desc, id desc limit ?2",
            if filter.unfinished { in_state(|state| !state.is_final()) } else { String::new() },
            if filter.failed { in_state(RunState::is_failure) } else { String::new() },
            if filter.without_monitors { concat!("and not ", of_family!(monitor)) } else { "" },
        );
        let rows: Vec<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(filter.job)
            .bind(filter.limit)
            .bind(filter.kind)
            .bind(filter.since)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::journal("read runs"))?;
        Ok(rows.into_iter().map(Run::from).collect())
    }

    /// The newest ended run of each of these jobs that succeeded or failed, by job.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn last_runs(&self, jobs: impl Iterator<Item = &str> + Send) -> Result<Vec<Run>, Error> {
        self.newest(jobs, "state not in ('queued', 'running', 'skipped', 'missed')").await
    }

    /// The newest run of each of these jobs that succeeded, by job.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn last_successes(&self, jobs: impl Iterator<Item = &str> + Send) -> Result<Vec<Run>, Error> {
        self.newest(jobs, "state = 'succeeded'").await
    }

    /// The newest run of each job that is like this: one read of the index a job.
    async fn newest(&self, jobs: impl Iterator<Item = &str>, like: &'static str) -> Result<Vec<Run>, Error> {
        let query = format!(
            "select {COLUMNS} from runs where id in (select (select id from runs where job = wanted.value and {like}
                 order by scheduled_for desc, id desc limit 1) from json_each(?) wanted) order by job"
        );
        let jobs = serde_json::Value::from_iter(jobs).to_string();
        let rows: Vec<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(jobs)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::journal("read runs"))?;
        Ok(rows.into_iter().map(Run::from).collect())
    }

    /// How many percent of the backups of each cluster since a time succeeded.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn backup_rates(&self, since: DateTime<Utc>) -> Result<BTreeMap<String, f64>, Error> {
        let rows: Vec<(String, f64)> = sqlx::query_as(concat!(
            "select cluster, 100.0 * count(*) filter (where state = 'succeeded') / count(*) from runs r
             where ",
            of_family!(backup),
            " and finished_at > ? and cluster is not null and ",
            counts!(),
            " and state in ('succeeded', 'failed', 'timed-out', 'interrupted', 'missed') group by cluster"
        ))
        .bind(since)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read runs"))?;
        Ok(rows.into_iter().collect())
    }

    /// What a run that has ended found, worst first: how bad, and in one line.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn findings_of(&self, run: Uuid) -> Result<Vec<(Severity, String)>, Error> {
        // By time, which has an index.
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select severity, coalesce(cluster || ': ', '') || summary from findings
             where run_id = ?1 and seen_at = (select finished_at from runs where id = ?1)",
        )
        .bind(run.hyphenated())
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read findings"))?;
        let severity = |word: String| word.parse().unwrap_or(Severity::Unknown);
        let mut found: Vec<_> = rows.into_iter().map(|(word, summary)| (severity(word), summary)).collect();
        found.sort_by(|one, other| other.cmp(one));
        Ok(found)
    }

    /// One run.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn run(&self, id: Uuid) -> Result<Option<Run>, Error> {
        let query = format!("select {COLUMNS} from runs where id = ?");
        let row: Option<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(id.hyphenated())
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::journal("read a run"))?;
        Ok(row.map(Run::from))
    }
}

/// Text that PostgreSQL stores too: it has no NUL.
pub(crate) fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

async fn insert(connection: &mut SqliteConnection, run: &Run) -> Result<bool, Error> {
    let done = sqlx::query(
        "insert into runs (id, job, kind, cluster, trigger, state, scheduled_for, started_at, finished_at, attempts,
             summary, error)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
    )
    .bind(run.id.hyphenated())
    .bind(&run.job)
    .bind(&run.kind)
    .bind(&run.cluster)
    .bind(run.trigger.as_str())
    .bind(run.state.as_str())
    .bind(run.scheduled_for)
    .bind(run.started_at)
    .bind(run.finished_at)
    .bind(run.attempts)
    .bind(storable(&run.summary))
    .bind(run.error.as_deref().map(storable))
    .execute(connection)
    .await
    .map_err(Error::journal("claim a run"))?;
    Ok(done.rows_affected() == 1)
}

async fn update(connection: &mut SqliteConnection, run: &Run) -> Result<(), Error> {
    sqlx::query(
        "update runs set state = ?, started_at = ?, finished_at = ?, attempts = ?, summary = ?, error = ? where id = ?",
    )
    .bind(run.state.as_str())
    .bind(run.started_at)
    .bind(run.finished_at)
    .bind(run.attempts)
    .bind(storable(&run.summary))
    .bind(run.error.as_deref().map(storable))
    .bind(run.id.hyphenated())
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("end a run"))
}

async fn write_end(connection: &mut SqliteConnection, end: RunEnd) -> Result<Vec<AlertChange>, Error> {
    let run = &end.run;
    let seen_at = run.finished_at.unwrap_or_else(pgbosun_core::clock::now);
    update(connection, run).await?;
    for finding in &end.findings {
        sqlx::query(
            "insert into findings (id, run_id, job, cluster, object, severity, summary, meaning, advice, detail, seen_at)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(Uuid::now_v7().hyphenated())
        .bind(run.id.hyphenated())
        .bind(&run.job)
        .bind(&run.cluster)
        .bind(storable(&finding.object))
        .bind(finding.severity.as_str())
        .bind(storable(&finding.summary))
        .bind(storable(&finding.meaning))
        .bind(storable(&finding.advice))
        .bind(storable(&finding.detail.to_string()))
        .bind(seen_at)
        .execute(&mut *connection)
        .await
        .map_err(Error::journal("write a finding"))?;
    }
    let changed = match end.judge {
        Some(judge) => alerts::change(connection, Some(run.job.clone()), judge).await?,
        None => Vec::new(),
    };
    for record in &end.records {
        crate::records::write(connection, record, run, seen_at).await?;
    }
    for message in end.messages {
        crate::outbox::insert(connection, message).await?;
    }
    if let Some(state) = end.state {
        sqlx::query("insert or replace into job_states (job, state) values (?, ?)")
            .bind(&run.job)
            .bind(state.to_string())
            .execute(connection)
            .await
            .map_err(Error::journal("write a job's state"))?;
    }
    Ok(changed)
}
