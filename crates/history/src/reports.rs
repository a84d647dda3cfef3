//! What reports ask of the journal about a window of time.

use crate::{Error, Journal, runs::counts};
use chrono::{DateTime, Utc};
use pgbosun_core::{finding::Severity, run::RunState};
use serde::Serialize;
use sqlx::FromRow;

/// How the runs of a job went.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct JobTally {
    /// The job.
    pub job: String,
    /// Its kind.
    pub kind: String,
    /// Runs that succeeded.
    pub succeeded: i64,
    /// Runs that failed, ran out of time or were interrupted.
    pub failed: i64,
    /// Times that were skipped or missed, and runs that were cancelled.
    pub not_run: i64,
    /// The longest run, seconds.
    pub longest_seconds: f64,
    /// What the last one said.
    pub last: String,
    /// How the last one that ran ended.
    #[sqlx(try_from = "String")]
    pub last_state: RunState,
}

/// An alert that was open in the window.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct AlertRow {
    /// The monitor.
    pub job: String,
    /// Its cluster.
    pub cluster: Option<String>,
    /// How bad.
    #[sqlx(try_from = "String")]
    pub severity: Severity,
    /// What.
    pub summary: String,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// Until when.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Whether anybody was told: another alert may have explained it.
    pub told: bool,
}

impl Journal {
    /// How the jobs of a cluster, and those of none, or all jobs went between two times; monitors that did nothing but look
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn job_tallies(
        &self,
        cluster: Option<&str>,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<JobTally>, Error> {
        sqlx::query_as(concat!(
            "select job, kind, count(*) filter (where state = 'succeeded') as succeeded,
                 count(*) filter (where state in ('failed', 'timed-out', 'interrupted')) as failed,
                 count(*) filter (where state in ('skipped', 'missed', 'cancelled')) as not_run,
                 coalesce(max((julianday(finished_at) - julianday(started_at)) * 86400.0), 0.0) as longest_seconds,
                 (select summary from runs l where l.job = r.job and l.finished_at >= ?2 and l.finished_at < ?3
                  order by l.finished_at desc limit 1) as last,
                 coalesce((select state from runs l where l.job = r.job and l.finished_at >= ?2 and l.finished_at < ?3
                      and state in ('succeeded', 'failed', 'timed-out', 'interrupted')
                  order by l.finished_at desc limit 1), 'skipped') as last_state
             from runs r where finished_at >= ?2 and finished_at < ?3
                 and (?1 is null or cluster is null or cluster = ?1) and ",
            counts!(),
            "
             group by job, kind having not ",
            of_family!(monitor),
            " or failed > 0 order by failed desc, job"
        ))
        .bind(cluster)
        .bind(from)
        .bind(to)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read runs"))
    }

    /// The alerts of a cluster and of this machine, or all, that were open between two times, those that are open still
    /// first, the worst of them before the others.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn alerts_between(
        &self,
        cluster: Option<&str>,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<AlertRow>, Error> {
        sqlx::query_as(
            "select job, cluster, severity, summary, opened_at, resolved_at, told_severity is not null as told from alerts
             where opened_at < ?3 and (resolved_at is null or resolved_at >= ?2) and state <> 'pending'
                 and (?1 is null or cluster is null or cluster = ?1)
             order by resolved_at is not null,
                 case when resolved_at is null then case severity when 'critical' then 0 when 'unknown' then 1 else 2 end end,
                 opened_at desc limit 1000",
        )
        .bind(cluster)
        .bind(from)
        .bind(to)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read alerts"))
    }
}
