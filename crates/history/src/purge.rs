//! Retention of history: old rows go in small batches, so that nobody waits for a purge.

use crate::{Delivery, Error, Journal};
use chrono::{DateTime, Utc};

/// Rows per transaction.
const BATCH: u64 = 1_000;

/// What is old.
#[derive(Clone, Copy, Debug)]
pub struct Old {
    /// What ended before this is.
    pub before: DateTime<Utc>,
    /// Runs of monitors that succeeded before this are.
    pub monitor_runs: DateTime<Utc>,
    /// What maintenance did to each object before this is.
    pub details: DateTime<Utc>,
    /// Samples that begin before this are.
    pub samples: DateTime<Utc>,
    /// Hours of them before this are.
    pub hours: DateTime<Utc>,
}

/// A statement, and what it takes for old.
type Purge = (&'static str, fn(Old) -> DateTime<Utc>);

const SAMPLES: [&str; 3] = [
    "delete from samples where rowid in (select rowid from samples where span = 'sample' and at < ? limit 1000)",
    "delete from samples where rowid in (select rowid from samples where span = 'hour' and at < ? limit 1000)",
    "delete from samples where rowid in (select rowid from samples where span = 'day' and at < ? limit 1000)",
];

const JOURNAL: [Purge; 14] = [
    (
        concat!(
            "delete from runs where rowid in (select rowid from runs where finished_at < ? and state = 'succeeded' and ",
            of_family!(monitor),
            " limit 1000)"
        ),
        |old| old.monitor_runs,
    ),
    ("delete from findings where rowid in (select rowid from findings where seen_at < ? limit 1000)", |old| old.before),
    ("delete from runs where rowid in (select rowid from runs where finished_at < ? limit 1000)", |old| old.before),
    ("delete from alerts where rowid in (select rowid from alerts where resolved_at < ? limit 1000)", |old| old.before),
    ("delete from silences where rowid in (select rowid from silences where until_at < ? limit 1000)", |old| {
        old.before
    }),
    (
        "delete from notifications where rowid in
        (select rowid from notifications where created_at < ? and state not in ('pending', 'held') limit 1000)",
        |old| old.before,
    ),
    (
        "delete from restore_tests where rowid in (select rowid from restore_tests where started_at < ? limit 1000)",
        |old| old.before,
    ),
    ("delete from maintenance where rowid in (select rowid from maintenance where started_at < ? limit 1000)", |old| {
        old.details
    }),
    (
        "delete from recommendations where (cluster, job, database, topic, object) in
        (select cluster, job, database, topic, object from recommendations where gone_at < ? limit 1000)",
        |old| old.before,
    ),
    (SAMPLES[0], |old| old.samples),
    (SAMPLES[1], |old| old.hours),
    (SAMPLES[2], |old| old.before),
    (
        // One that is still used is asked for again.
        "delete from queries where (cluster, query) in (select cluster, query from queries where seen_at < ? limit 1000)",
        |old| old.before,
    ),
    ("delete from audit_log where rowid in (select rowid from audit_log where at < ? limit 1000)", |old| old.before),
];

const DBA_OPS: [Purge; 14] = [
    (concat!("delete from dba_ops.job_runs where ctid = any (array
        (select ctid from dba_ops.job_runs where finished_at < $1 and instance_id = $2 and state = 'succeeded' and ",
        of_family!(monitor), " limit 1000))"), |old| old.monitor_runs),
    ("delete from dba_ops.findings where ctid = any (array
        (select ctid from dba_ops.findings where seen_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.job_runs where ctid = any (array
        (select ctid from dba_ops.job_runs where finished_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.alerts where ctid = any (array
        (select ctid from dba_ops.alerts where resolved_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.silences where ctid = any (array
        (select ctid from dba_ops.silences where until_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.notifications where ctid = any (array
        (select ctid from dba_ops.notifications where created_at < $1 and state not in ('pending', 'held') and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.restore_tests where ctid = any (array
        (select ctid from dba_ops.restore_tests where started_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.maintenance where ctid = any (array
        (select ctid from dba_ops.maintenance where started_at < $1 and instance_id = $2 limit 1000))", |old| old.details),
    ("delete from dba_ops.recommendations where ctid = any (array
        (select ctid from dba_ops.recommendations where gone_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.samples where ctid = any (array
        (select ctid from dba_ops.samples where span = 'sample' and at < $1 and instance_id = $2 limit 1000))", |old| old.samples),
    ("delete from dba_ops.samples where ctid = any (array
        (select ctid from dba_ops.samples where span = 'hour' and at < $1 and instance_id = $2 limit 1000))", |old| old.hours),
    ("delete from dba_ops.samples where ctid = any (array
        (select ctid from dba_ops.samples where span = 'day' and at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.queries where ctid = any (array
        (select ctid from dba_ops.queries where seen_at < $1 and instance_id = $2 limit 1000))", |old| old.before),
    ("delete from dba_ops.audit_log where ctid = any (array
        (select ctid from dba_ops.audit_log where at < $1
             and instance_id in ($2, '00000000-0000-0000-0000-000000000000') limit 1000))", |old| old.before),
];

impl Journal {
    /// Removes what is old and over; returns how many rows went.
    ///
    /// # Errors
    /// [`Error::Journal`]; what went before it stays gone.
    pub async fn purge(&self, old: Old) -> Result<u64, Error> {
        let mut removed = 0;
        for (statement, before) in JOURNAL {
            let before = before(old);
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
    /// Removes what is old and over from `dba_ops`; returns how many rows went.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn purge(&mut self, old: Old) -> Result<u64, Error> {
        let instance = self.instance();
        let connection = self.connection().await?;
        let mut removed = 0;
        for (statement, before) in DBA_OPS {
            let before = before(old);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunEnd;
    use chrono::Duration;
    use pgbosun_core::{
        clock,
        run::{Run, RunState, Trigger},
    };

    fn run(days_ago: i64, number: i64) -> Run {
        let at = clock::now() - Duration::days(days_ago) + Duration::seconds(number);
        Run {
            id: uuid::Uuid::now_v7(),
            job: "job".into(),
            kind: "command".into(),
            cluster: None,
            trigger: Trigger::Schedule,
            state: RunState::Running,
            scheduled_for: at,
            started_at: Some(at),
            finished_at: None,
            attempts: 1,
            summary: String::new(),
            error: None,
        }
    }

    #[tokio::test]
    async fn old_rows_go_in_batches_with_their_changes_and_young_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).await.unwrap();
        let mut runs: Vec<_> = (0..2_500).map(|number| run(100, number)).collect();
        runs.extend((0..10).map(|number| run(1, number)));
        for run in &mut runs {
            (run.state, run.finished_at) = (RunState::Succeeded, run.started_at);
        }
        let unfinished = run(200, 0);
        runs.push(unfinished.clone());
        assert_eq!(journal.claim(runs.clone(), Vec::new()).await.unwrap().len(), 2_511);
        // A time that has a row keeps it.
        assert!(journal.claim(runs, Vec::new()).await.unwrap().is_empty());
        let old = |days, monitor_runs| {
            let before = |days| clock::now() - Duration::days(days);
            Old {
                before: before(days),
                monitor_runs: before(monitor_runs),
                details: before(days),
                samples: before(days),
                hours: before(days),
            }
        };
        assert_eq!(journal.purge(old(90, 0)).await.unwrap(), 2_500);
        assert_eq!(journal.purge(old(90, 0)).await.unwrap(), 0);
        let left: i64 = sqlx::query_scalar("select count(*) from changes").fetch_one(&journal.readers).await.unwrap();
        assert_eq!(left, 11);
        // Monitors go earlier, unless they failed.
        let monitor_runs = [RunState::Succeeded, RunState::Failed].map(|state| {
            let started = run(20, i64::from(state == RunState::Failed));
            Run { state, finished_at: started.started_at, kind: "monitor.locks".into(), job: "locks".into(), ..started }
        });
        journal.claim(monitor_runs.to_vec(), Vec::new()).await.unwrap();
        assert_eq!([journal.purge(old(90, 30)).await.unwrap(), journal.purge(old(90, 14)).await.unwrap()], [0, 1]);
        // What is at work is never old.
        assert_eq!(journal.unfinished(clock::now()).await.unwrap()[0].id, unfinished.id);
    }

    #[tokio::test]
    async fn a_run_ends_once_and_a_failed_write_takes_nothing_else_along() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).await.unwrap();
        let (mut first, mut second) = (run(0, 0), run(0, 1));
        journal.claim(vec![first.clone(), second.clone()], Vec::new()).await.unwrap();
        for run in [&mut first, &mut second] {
            (run.state, run.finished_at) = (RunState::Failed, run.started_at);
        }
        journal.end_run(RunEnd::bare(first.clone())).await.unwrap();
        first.state = RunState::Succeeded;
        // Both at once, so that they share a transaction.
        let (again, other) =
            tokio::join!(journal.end_run(RunEnd::bare(first.clone())), journal.end_run(RunEnd::bare(second.clone())));
        assert!(again.is_err());
        other.unwrap();
        let state = async |id| journal.run(id).await.unwrap().unwrap().state;
        assert_eq!((state(first.id).await, state(second.id).await), (RunState::Failed, RunState::Failed));
    }
}
