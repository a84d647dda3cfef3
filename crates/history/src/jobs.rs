//! Jobs as the journal knows them: how far the planner has looked, pauses, and the state one run leaves the next.

use crate::{Error, Journal};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A job as configured.
#[derive(Clone, Debug)]
pub struct JobEntry {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Cluster.
    pub cluster: Option<String>,
    /// Schedule as text.
    pub schedule: Option<String>,
    /// Zone of the schedule.
    pub time_zone: String,
}

/// A job as the journal knows it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct JobRow {
    /// Name.
    pub name: String,
    /// The planner has dealt with every time up to here.
    #[sqlx(rename = "looked_until")]
    pub planned_until: DateTime<Utc>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
}

/// Who pauses, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: DateTime<Utc>,
}

impl Journal {
    /// Takes over the configured jobs. A job that is new or whose schedule changed is planned from `now` on: times
    /// before it had this schedule were not missed.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn sync_jobs(&self, entries: Vec<JobEntry>, now: DateTime<Utc>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                let failed = Error::journal("write the jobs");
                let known: Vec<(String,)> = sqlx::query_as("select name from jobs where configured")
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(&failed)?;
                let configured: HashSet<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
                for (gone,) in known.iter().filter(|(name,)| !configured.contains(name.as_str())) {
                    sqlx::query("update jobs set configured = 0 where name = ?")
                        .bind(gone)
                        .execute(&mut *connection)
                        .await
                        .map_err(&failed)?;
                }
                for entry in &entries {
                    sqlx::query(
                        "insert into jobs (name, kind, cluster, schedule, time_zone, configured, looked_until)
                         values (?1, ?2, ?3, ?4, ?5, 1, ?6)
                         on conflict (name) do update set kind = ?2, cluster = ?3, schedule = ?4, time_zone = ?5,
                             configured = 1,
                             looked_until = iif(configured and schedule is ?4 and time_zone = ?5, looked_until, ?6)
                         where (kind, cluster, schedule, time_zone, configured) is not (?2, ?3, ?4, ?5, 1)",
                    )
                    .bind(&entry.name)
                    .bind(&entry.kind)
                    .bind(&entry.cluster)
                    .bind(&entry.schedule)
                    .bind(&entry.time_zone)
                    .bind(now)
                    .execute(&mut *connection)
                    .await
                    .map_err(&failed)?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Every configured job.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn jobs(&self) -> Result<Vec<JobRow>, Error> {
        sqlx::query_as(
            "select name, looked_until, paused_at, paused_by, pause_reason from jobs where configured order by name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read the jobs"))
    }

    /// What the last run of a job left for the next.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn job_state(&self, job: &str) -> Result<Option<serde_json::Value>, Error> {
        let text: Option<String> = sqlx::query_scalar("select state from job_states where job = ?")
            .bind(job)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::journal("read a job's state"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Pauses a job, or lets it go on (`None`).
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn pause_job(&self, job: &str, pause: Option<Pause>) -> Result<(), Error> {
        let job = job.to_owned();
        self.write(move |connection| {
            Box::pin(async move {
                let (at, by, reason) = pause.map_or((None, None, None), |p| (Some(p.at), Some(p.by), Some(p.reason)));
                sqlx::query("update jobs set paused_at = ?, paused_by = ?, pause_reason = ? where name = ?")
                    .bind(at)
                    .bind(by)
                    .bind(reason)
                    .bind(job)
                    .execute(connection)
                    .await
                    .map(drop)
                    .map_err(Error::journal("pause a job"))
            })
        })
        .await
    }
}
