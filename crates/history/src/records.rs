//! The facts that a run brings, at its end or while it is at work, written into the journal.

use crate::{Actor, Error, Journal, audit, maintenance, samples};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    outcome::{BackupStateRecord, Record},
    run::Run,
};
use sqlx::SqliteConnection;

impl Journal {
    /// Writes down what a run that is still at work has done, in one transaction.
    ///
    /// # Errors
    /// [`Error::Journal`]; then nothing of it was written.
    pub async fn note(&self, run: Run, records: Vec<Record>, at: DateTime<Utc>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                for record in &records {
                    write(connection, record, &run, at).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

pub(crate) async fn write(
    connection: &mut SqliteConnection,
    record: &Record,
    run: &Run,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    match record {
        Record::Maintenance(record) => return maintenance::write(connection, record, run).await,
        Record::Sample(sample) => return samples::write(connection, sample, run).await,
        Record::Query(query) => return samples::write_query(connection, query, run, at).await,
        Record::Counters(counters) => return samples::write_counters(connection, counters, run).await,
        Record::BackupState(change) => return set_backup_state(connection, change, at).await,
        Record::Audit(change) => return audit::write(connection, &Actor::job(run), change).await,
        Record::Advice(advice) => return maintenance::write_advice(connection, advice, run, at).await,
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
        .bind(run.id.hyphenated())
        .bind(at)
        .bind(&backup.parent),
        Record::RestoreTest(test) => sqlx::query(
            "insert into restore_tests (id, run_id, cluster, repository, label, started_at, total_seconds,
                 restore_seconds, recovery_seconds, check_seconds, recovery_point_age_seconds, databases, tables, rows,
                 passed, detail, find_seconds, target, recovered_to, extracted, extract_seconds)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(test.id.hyphenated())
        .bind(run.id.hyphenated())
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
        .bind(test.recovered_to)
        .bind(test.extracted)
        .bind(test.extract_seconds),
    }
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write a record"))
}
/// What is known of a backup changed.
pub(crate) async fn set_backup_state(
    connection: &mut SqliteConnection,
    change: &BackupStateRecord,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query("update backups set state = ?, changed_at = ? where cluster = ? and repository = ? and label = ?")
        .bind(change.state.as_str())
        .bind(at)
        .bind(&change.cluster)
        .bind(&change.repository)
        .bind(&change.label)
        .execute(connection)
        .await
        .map(drop)
        .map_err(Error::journal("record what became of a backup"))
}
