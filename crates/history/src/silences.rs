//! Silences in the journal.

use crate::{Error, Journal, runs::storable};
use chrono::{DateTime, Utc};
use pgbosun_core::alert::{Matcher, Silence};
use sqlx::{FromRow, SqliteConnection};
use uuid::{Uuid, fmt::Hyphenated};

#[derive(FromRow)]
struct SilenceRow {
    id: Hyphenated,
    cluster: Option<String>,
    job: Option<String>,
    object: Option<String>,
    reason: String,
    created_by: String,
    created_at: DateTime<Utc>,
    until_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<SilenceRow> for Silence {
    fn from(row: SilenceRow) -> Self {
        Self {
            id: row.id.into_uuid(),
            matcher: Matcher { cluster: row.cluster, job: row.job, object: row.object },
            reason: row.reason,
            created_by: row.created_by,
            created_at: row.created_at,
            until: row.until_at,
            ended_at: row.ended_at,
        }
    }
}

impl Journal {
    /// The silences in force, the first to end first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn silences(&self, now: DateTime<Utc>) -> Result<Vec<Silence>, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read silences"))?;
        active(&mut connection, now).await
    }

    /// Adds a silence.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn add_silence(&self, silence: Silence) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "insert into silences (id, cluster, job, object, reason, created_by, created_at, until_at)
                     values (?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(silence.id.hyphenated())
                .bind(silence.matcher.cluster.as_deref().map(storable))
                .bind(silence.matcher.job.as_deref().map(storable))
                .bind(silence.matcher.object.as_deref().map(storable))
                .bind(storable(&silence.reason))
                .bind(&silence.created_by)
                .bind(silence.created_at)
                .bind(silence.until)
                .execute(connection)
                .await
                .map(drop)
                .map_err(Error::journal("write a silence"))
            })
        })
        .await
    }

    /// Ends a silence before its time; false where it is not in force.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn end_silence(&self, id: Uuid, at: DateTime<Utc>) -> Result<bool, Error> {
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("update silences set ended_at = ?1 where id = ?2 and ended_at is null and until_at > ?1")
                    .bind(at)
                    .bind(id.hyphenated())
                    .execute(connection)
                    .await
                    .map(|done| done.rows_affected() > 0)
                    .map_err(Error::journal("end a silence"))
            })
        })
        .await
    }
}

pub(crate) async fn active(connection: &mut SqliteConnection, now: DateTime<Utc>) -> Result<Vec<Silence>, Error> {
    let rows: Vec<SilenceRow> =
        sqlx::query_as("select * from silences where ended_at is null and until_at > ? order by until_at")
            .bind(now)
            .fetch_all(connection)
            .await
            .map_err(Error::journal("read silences"))?;
    Ok(rows.into_iter().map(Silence::from).collect())
}
