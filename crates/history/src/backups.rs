//! Backups and restore tests as history knows them; the repository has the last word on what exists.

use crate::{Error, Journal, records};
use chrono::{DateTime, Utc};
use pgbosun_core::outcome::{BackupState, BackupStateRecord};
use serde::Serialize;
use sqlx::FromRow;

/// A backup in history.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct BackupRow {
    /// Cluster.
    pub cluster: String,
    /// Repository.
    pub repository: String,
    /// Name in it.
    pub label: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// What is known of it.
    #[sqlx(try_from = "String")]
    pub state: BackupState,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// Bytes read from the server.
    pub bytes: i64,
    /// Bytes stored.
    pub stored_bytes: i64,
}

/// A restore test in history.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct RestoreTestRow {
    /// Cluster.
    pub cluster: String,
    /// Where it lay.
    pub repository: String,
    /// The backup that was restored.
    pub label: String,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// How far it was to recover.
    pub target: String,
    /// Choosing the backup, fetching it, recovering, and looking through, seconds.
    pub find_seconds: f64,
    /// Fetching and unpacking.
    pub restore_seconds: f64,
    /// Server start to the recovered state.
    pub recovery_seconds: f64,
    /// Looking through.
    pub check_seconds: f64,
    /// Whether one table could be dumped, where that was asked for.
    pub extracted: Option<bool>,
    /// How long that took.
    pub extract_seconds: Option<f64>,
    /// Measured recovery time, seconds.
    pub total_seconds: f64,
    /// Measured recovery point age, seconds.
    pub recovery_point_age_seconds: f64,
    /// Whether everything held.
    pub passed: bool,
    /// What did not, or what was found.
    pub detail: String,
}

/// What is read of a restore test.
macro_rules! restore_tests {
    ($condition:literal) => {
        concat!(
            "select cluster, repository, label, started_at, target, find_seconds, restore_seconds, recovery_seconds,
                 check_seconds, extracted, extract_seconds, total_seconds, recovery_point_age_seconds, passed, detail
             from restore_tests t where ",
            $condition
        )
    };
}

impl Journal {
    /// Writes down what became of backups by hand. One that history does not know stays unknown.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn note_backups(&self, changes: Vec<BackupStateRecord>, at: DateTime<Utc>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                for change in changes {
                    records::set_backup_state(connection, &change, at).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Backups of all clusters, newest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn backups(&self) -> Result<Vec<BackupRow>, Error> {
        sqlx::query_as(
            "select cluster, repository, label, kind, state, started_at, finished_at, bytes, stored_bytes from backups
             order by finished_at desc",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read backups"))
    }

    /// The newest restore test of every cluster.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn last_restore_tests(&self) -> Result<Vec<RestoreTestRow>, Error> {
        sqlx::query_as(restore_tests!(
            "started_at = (select max(started_at) from restore_tests n where n.cluster = t.cluster)"
        ))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read restore tests"))
    }

    /// The restore tests that began between two times, of one cluster or of all, newest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn restore_tests(
        &self,
        cluster: Option<&str>,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<RestoreTestRow>, Error> {
        sqlx::query_as(restore_tests!(
            "started_at >= ?2 and started_at < ?3 and (?1 is null or cluster = ?1) order by started_at desc"
        ))
        .bind(cluster)
        .bind(from)
        .bind(to)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read restore tests"))
    }
}
