//! Statistics by need (reference 000: update table statistics daily, ANALYZE on all tables weekly).

use super::{
    session::Ended,
    shift::{AFTER_BUDGET, Piece, Shift},
    table::tables,
    vacuum::STANDBY,
};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{
    clock,
    maintenance::{Action, Ending},
    options,
    outcome::Outcome,
};
use std::time::{Duration, Instant};

options! {
    /// Refreshes the statistics of tables that changed since they were last analyzed, of tables that have none, and once
    /// a week of partitioned tables as a whole, which autovacuum never does.
    pub struct Analyze {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// Analyze every table, whether it needs it or not.
        all: bool = "false";
        /// How long the job may run; a statement still running at the end is cancelled.
        time_budget: Duration = "\"1h\"";
        /// A table is due at this percentage of its own autovacuum threshold: at 100 autovacuum would do it itself.
        threshold_share: u8 = "50";
        /// How long to wait for a lock.
        lock_timeout: Duration = "\"5s\"";
    }
}

#[async_trait]
impl Job for Analyze {
    fn least_timeout(&self) -> Duration {
        self.time_budget + AFTER_BUDGET
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut shift = Shift::new(context, self.time_budget, self.lock_timeout);
        let Some(databases) = shift.databases_of_primary(&self.databases).await? else {
            return Ok(Outcome { summary: STANDBY.into(), ..Outcome::default() });
        };
        let worked = self.work_all(&mut shift, &databases).await;
        shift.end(worked, "no table needs it").await
    }
}

impl Analyze {
    async fn work_all(&self, shift: &mut Shift<'_>, databases: &[String]) -> Result<(), JobError> {
        for database in databases {
            let Some(mut session) = shift.take_session(database).await? else { continue };
            let share = f64::from(self.threshold_share.max(1)) / 100.0;
            let listed = tables(&mut session).await?.into_iter().filter(|table| !table.system);
            let mut needed: Vec<_> = listed
                .filter_map(|table| {
                    table.analyze(share, self.all, clock::now()).map(|(score, why)| (score, why, table))
                })
                .collect();
            needed.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (_, reason, table) in &needed {
                let (object, bytes) = (table.name.as_str(), table.size());
                let piece = Piece { database, object, action: Action::Analyze, reason, bytes };
                let statement = format!("ANALYZE {object}");
                if !table.allowed {
                    shift.refuse(&piece);
                } else if shift.context.dry_run {
                    shift.would(database, &format!("{statement};  -- {reason}"));
                } else if let Some(reason) = shift.closed_to(Duration::ZERO) {
                    shift.skip(&piece, reason);
                } else {
                    let begun = Instant::now();
                    match session.execute(&statement, shift).await? {
                        Ended::Done => {
                            shift.record(&piece, Ending::Done, reason.clone(), Some(bytes), None, begun.elapsed());
                        }
                        ended => shift.record_ending(&piece, &ended, begun.elapsed()),
                    }
                }
            }
            shift.return_session(session);
        }
        Ok(())
    }
}
