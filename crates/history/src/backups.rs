//! Backups and restore tests as history knows them; the repository has the last word on what exists.

use crate::{Error, Journal};
use chrono::{DateTime, Utc};
use pgbosun_core::outcome::{BackupState, Record};
use serde::Serialize;
use sqlx::{FromRow, SqliteConnection};
use uuid::Uuid;

/// A backup in history.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct BackupRow {
    /// Cluster.
    pub cluster: String,
    /// Repository.
    pub repository: String,
    /// Name in it.
    pub label: String,
    /// What is known of it.
    #[sqlx(try_from = "String")]
    pub state: BackupState,
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
    /// The backup that was restored.
    pub label: String,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// Measured recovery time, seconds.
    pub total_seconds: f64,
    /// Measured recovery point age, seconds.
    pub recovery_point_age_seconds: f64,
    /// Whether everything held.
    pub passed: bool,
}

impl Journal {
    /// Backups of all clusters, newest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn backups(&self) -> Result<Vec<BackupRow>, Error> {
        sqlx::query_as(
            "select cluster, repository, label, state, finished_at, bytes, stored_bytes from backups
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
        sqlx::query_as(
            "select cluster, label, started_at, total_seconds, recovery_point_age_seconds, passed from restore_tests t
             where started_at = (select max(started_at) from restore_tests n where n.cluster = t.cluster)",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read restore tests"))
    }
}

pub(crate) async fn write(
    connection: &mut SqliteConnection,
    record: &Record,
    run: Uuid,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    match record {
        Record::Backup(backup) => sqlx::query(
            "insert into backups (cluster, repository, label, kind, state, system_id, started_at, finished_at, start_lsn,
                 stop_lsn, timeline, bytes, stored_bytes, run_id, changed_at, parent)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )
        .bind(&backup.cluster)
        .bind(&backup.repository)
        .bind(&backup.label)
        .bind(&backup.kind)
        .bind(backup.state.as_str())
        .bind(&backup.system_id)
        .bind(backup.started_at)
        .bind(backup.finished_at)
        .bind(backup.start_lsn.to_string())
        .bind(backup.stop_lsn.to_string())
        .bind(backup.timeline)
        .bind(i64::try_from(backup.bytes).unwrap_or(i64::MAX))
        .bind(i64::try_from(backup.stored_bytes).unwrap_or(i64::MAX))
        .bind(run.hyphenated())
        .bind(at)
        .bind(&backup.parent),
        Record::BackupState(change) => sqlx::query(
            "update backups set state = ?, changed_at = ? where cluster = ? and repository = ? and label = ?",
        )
        .bind(change.state.as_str())
        .bind(at)
        .bind(&change.cluster)
        .bind(&change.repository)
        .bind(&change.label),
        Record::RestoreTest(test) => sqlx::query(
            "insert into restore_tests (id, run_id, cluster, repository, label, started_at, total_seconds,
                 restore_seconds, recovery_seconds, check_seconds, recovery_point_age_seconds, databases, tables, rows,
                 passed, detail, find_seconds, target, recovered_to)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(test.id.hyphenated())
        .bind(run.hyphenated())
        .bind(&test.cluster)
        .bind(&test.repository)
        .bind(&test.label)
        .bind(test.started_at)
        .bind(test.total_seconds)
        .bind(test.restore_seconds)
        .bind(test.recovery_seconds)
        .bind(test.check_seconds)
        .bind(test.recovery_point_age_seconds)
        .bind(i64::try_from(test.databases).unwrap_or(i64::MAX))
        .bind(i64::try_from(test.tables).unwrap_or(i64::MAX))
        .bind(i64::try_from(test.rows).unwrap_or(i64::MAX))
        .bind(test.passed)
        .bind(&test.detail)
        .bind(test.find_seconds)
        .bind(&test.target)
        .bind(test.recovered_to),
    }
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write a record"))
}
