//! Retention of history: old rows go in small batches, so that nobody waits for a purge.

use crate::{Delivery, Error, Journal};
use chrono::{DateTime, Utc};

/// Rows per transaction.
const BATCH: u64 = 1_000;

const JOURNAL: [&str; 6] = [
    "delete from findings where rowid in (select rowid from findings where seen_at < ? limit 1000)",
    "delete from runs where rowid in (select rowid from runs where finished_at < ? limit 1000)",
    "delete from alerts where rowid in (select rowid from alerts where resolved_at < ? limit 1000)",
    "delete from notifications where rowid in
        (select rowid from notifications where created_at < ? and state <> 'pending' limit 1000)",
    "delete from restore_tests where rowid in (select rowid from restore_tests where started_at < ? limit 1000)",
    "delete from audit_log where rowid in (select rowid from audit_log where at < ? limit 1000)",
];

const DBA_OPS: [&str; 6] = [
    "delete from dba_ops.findings where ctid = any (array
        (select ctid from dba_ops.findings where seen_at < $1 and instance_id = $2 limit 1000))",
    "delete from dba_ops.job_runs where ctid = any (array
        (select ctid from dba_ops.job_runs where finished_at < $1 and instance_id = $2 limit 1000))",
    "delete from dba_ops.alerts where ctid = any (array
        (select ctid from dba_ops.alerts where resolved_at < $1 and instance_id = $2 limit 1000))",
    "delete from dba_ops.notifications where ctid = any (array
        (select ctid from dba_ops.notifications where created_at < $1 and state <> 'pending' and instance_id = $2 limit 1000))",
    "delete from dba_ops.restore_tests where ctid = any (array
        (select ctid from dba_ops.restore_tests where started_at < $1 and instance_id = $2 limit 1000))",
    "delete from dba_ops.audit_log where ctid = any (array
        (select ctid from dba_ops.audit_log where at < $1 and instance_id = $2 limit 1000))",
];

impl Journal {
    /// Removes what is older than `before` and over; returns how many rows went.
    ///
    /// # Errors
    /// [`Error::Journal`]; what went before it stays gone.
    pub async fn purge(&self, before: DateTime<Utc>) -> Result<u64, Error> {
        let mut removed = 0;
        for statement in JOURNAL {
            loop {
                let done = self
                    .write(move |connection| {
                        Box::pin(async move {
                            sqlx::query(statement)
                                .bind(before)
                                .execute(connection)
                                .await
                                .map_err(Error::journal("purge old rows"))
                        })
                    })
                    .await?
                    .rows_affected();
                removed += done;
                if done < BATCH {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

impl Delivery {
    /// Removes what is older than `before` and over from `dba_ops`; returns how many rows went.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn purge(&mut self, before: DateTime<Utc>) -> Result<u64, Error> {
        let instance = self.instance();
        let connection = self.connection().await?;
        let mut removed = 0;
        for statement in DBA_OPS {
            loop {
                let done = sqlx::query(statement)
                    .bind(before)
                    .bind(instance)
                    .execute(&mut *connection)
                    .await
                    .map_err(Error::dba_ops("purge old rows"))?
                    .rows_affected();
                removed += done;
                if done < BATCH {
                    break;
                }
            }
        }
        Ok(removed)
    }
}
