//! Statistics by need (reference 000: update table statistics daily, ANALYZE on all tables weekly).

use super::{
    run::{AFTER_BUDGET, MaintenanceRun, MaintenanceTarget},
    session::Ended,
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
        let mut run = MaintenanceRun::new(context, self.time_budget, self.lock_timeout);
        let Some(databases) = run.databases_of_primary(&self.databases).await? else {
            return Ok(Outcome { summary: STANDBY.into(), ..Outcome::default() });
        };
        let worked = self.work_all(&mut run, &databases).await;
        run.end(worked, "no table needs it").await
    }
}

impl Analyze {
    async fn work_all(&self, run: &mut MaintenanceRun<'_>, databases: &[String]) -> Result<(), JobError> {
        for database in databases {
            let Some(mut session) = run.take_session(database).await? else { continue };
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
                let target = MaintenanceTarget { database, object, action: Action::Analyze, reason, bytes };
                let statement = format!("ANALYZE {object}");
                if !table.allowed {
                    run.refuse(&target);
                } else if run.context.dry_run {
                    run.would(database, &format!("{statement};  -- {reason}"));
                } else if let Some(reason) = run.closed_to(Duration::ZERO) {
                    run.skip(&target, reason);
                } else {
                    let begun = Instant::now();
                    match session.execute(&statement, run).await? {
                        Ended::Done => {
                            run.record(&target, Ending::Done, reason.clone(), Some(bytes), None, begun.elapsed());
                        }
                        ended => run.record_ending(&target, &ended, begun.elapsed()),
                    }
                }
            }
            run.return_session(session);
        }
        Ok(())
    }
}
