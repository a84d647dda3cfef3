//! What maintenance did to each object, and what is recommended, in the journal.

use crate::{Error, Journal, runs::storable};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    maintenance::{Action, AdviceRecord, Ending, MaintenanceRecord},
    run::Run,
};
use serde::Serialize;
use sqlx::{FromRow, SqliteConnection};

/// One object that was worked on or left out.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct MaintenanceRow {
    /// Job.
    pub job: String,
    /// Cluster.
    pub cluster: String,
    /// Database.
    pub database: String,
    /// Table or index.
    pub object: String,
    /// What was to be done.
    #[sqlx(try_from = "String")]
    pub action: Action,
    /// What became of it.
    #[sqlx(try_from = "String")]
    pub result: Ending,
    /// Why.
    pub reason: String,
    /// Bytes before.
    pub bytes_before: Option<i64>,
    /// Bytes after.
    pub bytes_after: Option<i64>,
    /// When.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
}

/// Something recommended.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct RecommendationRow {
    /// Cluster.
    pub cluster: String,
    /// The job that found it.
    pub job: String,
    /// Database.
    pub database: String,
    /// What it is about.
    pub topic: String,
    /// Table or index.
    pub object: String,
    /// Why.
    pub reason: String,
    /// How much it is about.
    pub figure: f64,
    /// Of what.
    pub unit: String,
    /// The SQL that would do it.
    pub statement: String,
    /// Since when.
    pub first_seen_at: DateTime<Utc>,
}

impl Journal {
    /// What maintenance did between two times, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn maintenance(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<MaintenanceRow>, Error> {
        sqlx::query_as(
            "select job, cluster, database, object, action, result, reason, bytes_before, bytes_after, started_at, seconds
             from maintenance where started_at >= ? and started_at < ? order by started_at, id",
        )
        .bind(from)
        .bind(to)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read what maintenance did"))
    }

    /// What is recommended for a cluster, or for all, the most of each topic first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn recommendations(&self, cluster: Option<&str>) -> Result<Vec<RecommendationRow>, Error> {
        sqlx::query_as(
            "select cluster, job, database, topic, object, reason, figure, unit, statement, first_seen_at
             from recommendations where (?1 is null or cluster = ?1) and gone_at is null order by topic, figure desc",
        )
        .bind(cluster)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read recommendations"))
    }
}

pub(crate) async fn write(
    connection: &mut SqliteConnection,
    record: &MaintenanceRecord,
    run: &Run,
) -> Result<(), Error> {
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    sqlx::query(
        "insert into maintenance (id, run_id, job, cluster, database, object, action, result, reason, bytes_before,
             bytes_after, wal_bytes, started_at, seconds)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.id.hyphenated())
    .bind(run.id.hyphenated())
    .bind(&run.job)
    .bind(run.cluster.as_deref().unwrap_or_default())
    .bind(&record.database)
    .bind(&record.object)
    .bind(record.action.as_str())
    .bind(record.result.as_str())
    .bind(storable(&record.reason))
    .bind(bytes(record.bytes_before))
    .bind(bytes(record.bytes_after))
    .bind(bytes(record.wal_bytes))
    .bind(record.started_at)
    .bind(record.seconds)
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write what maintenance did"))
}

/// What is given is there from now on, and what the job gave before and gives no more is gone.
pub(crate) async fn write_advice(
    connection: &mut SqliteConnection,
    advice: &AdviceRecord,
    run: &Run,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let failed = Error::journal("write recommendations");
    let cluster = run.cluster.as_deref().unwrap_or_default();
    for given in &advice.given {
        sqlx::query(
            "insert into recommendations (cluster, job, database, topic, object, reason, figure, unit, statement,
                 first_seen_at, last_seen_at, run_id)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11)
             on conflict do update set reason = excluded.reason, figure = excluded.figure, unit = excluded.unit,
                 statement = excluded.statement, last_seen_at = excluded.last_seen_at, run_id = excluded.run_id,
                 first_seen_at = iif(gone_at is null, first_seen_at, excluded.first_seen_at), gone_at = null",
        )
        .bind(cluster)
        .bind(&run.job)
        .bind(&given.database)
        .bind(&given.topic)
        .bind(&given.object)
        .bind(storable(&given.reason))
        .bind(given.figure)
        .bind(&given.unit)
        .bind(storable(&given.statement))
        .bind(at)
        .bind(run.id.hyphenated())
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    }
    for (database, topic) in &advice.unknown {
        sqlx::query(
            "update recommendations set run_id = ?1 where cluster = ?2 and job = ?3 and gone_at is null and database = ?4
                 and (?5 is null or topic = ?5)",
        )
        .bind(run.id.hyphenated())
        .bind(cluster)
        .bind(&run.job)
        .bind(database)
        .bind(topic)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    }
    sqlx::query(
        "update recommendations set gone_at = ?1
         where cluster = ?2 and job = ?3 and gone_at is null and run_id <> ?4",
    )
    .bind(at)
    .bind(cluster)
    .bind(&run.job)
    .bind(run.id.hyphenated())
    .execute(connection)
    .await
    .map(drop)
    .map_err(&failed)
}
