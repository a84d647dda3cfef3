//! System catalogues kept in shape (reference 000: daily maintenance, REINDEX on system catalogs).

use super::{
    index::{Bloat, Index, RebuiltSize, indexes},
    run::{AFTER_BUDGET, MaintenanceRun, MaintenanceTarget},
    session::Ended,
    vacuum::{STANDBY, Vacuum, moment},
};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    human,
    maintenance::{Action, Ending},
    options,
    outcome::Outcome,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

options! {
    /// Vacuums system catalogs that need it, and rebuilds their bloated indexes. That locks the catalog briefly: run it
    /// when the server is quiet.
    pub struct Catalog {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// Rebuild every index of every catalog, bloated or not.
        all: bool = "false";
        /// How long the job may run.
        time_budget: Duration = "\"30m\"";
        /// Smaller indexes are left alone.
        minimum_size: ByteSize = "\"4MiB\"";
        /// Rebuild an index from this much bloat on, in percent of its size.
        bloat_limit: u8 = "50";
        /// How long to wait for a lock: meanwhile everything that needs the catalog waits behind it.
        lock_timeout: Duration = "\"1s\"";
        /// The longest that one index may take: meanwhile everything that needs the catalog waits.
        statement_timeout: Duration = "\"10s\"";
    }
}

/// What each index took when it was built last, by database and name.
type Memory = BTreeMap<String, RebuiltSize>;

/// How much of a catalogue is read and written a second at least, bytes.
const SPEED: f64 = 50e6;

#[derive(sqlx::FromRow)]
struct Size {
    bytes: i64,
}

#[async_trait]
impl Job for Catalog {
    fn least_timeout(&self) -> Duration {
        self.time_budget + AFTER_BUDGET
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut run = MaintenanceRun::new(context, self.time_budget, self.lock_timeout);
        let Some(databases) = run.databases_of_primary(&self.databases).await? else {
            return Ok(Outcome { summary: STANDBY.into(), ..Outcome::default() });
        };
        let mut memory: Memory = context.memory();
        let worked = self.work_all(&mut run, &databases, &mut memory).await;
        let mut outcome = run.end(worked, "no catalog is bloated").await?;
        if !context.dry_run {
            outcome.state = serde_json::to_value(memory).ok();
        }
        Ok(outcome)
    }
}

impl Catalog {
    async fn work_all(
        &self,
        run: &mut MaintenanceRun<'_>,
        databases: &[String],
        memory: &mut Memory,
    ) -> Result<(), JobError> {
        Vacuum::of_catalogues(self.time_budget, self.lock_timeout).catalogues(run, databases).await?;
        let minimum = if self.all { 0 } else { self.minimum_size.as_u64() };
        for (number, database) in databases.iter().enumerate() {
            let Some(mut session) = run.take_session(database).await? else { continue };
            for index in indexes(&mut session, minimum).await? {
                // Those that all databases share are done once.
                if !index.system || !index.valid || (index.shared && number > 0) {
                    continue;
                }
                let key = format!("{database} {}", index.name);
                let bloat = index.bloat(memory.get(&key).copied());
                let bloated = bloat.as_ref().is_some_and(|b| b.share * 100.0 >= f64::from(self.bloat_limit.max(1)));
                if !self.all && !bloated {
                    continue;
                }
                let reason = bloat.as_ref().map_or_else(|| "all = true".to_owned(), Bloat::told);
                let (object, bytes) = (index.name.as_str(), index.bytes.unsigned_abs());
                let target = MaintenanceTarget { database, object, action: Action::Reindex, reason: &reason, bytes };
                let statement = format!("REINDEX INDEX {object}");
                if let Some(closed) = run.closed_to(Duration::ZERO) {
                    run.skip(&target, closed);
                } else if index.work() / SPEED > self.statement_timeout.as_secs_f64() {
                    let limit = human::duration(self.statement_timeout);
                    run.skip(&target, format!("would lock the catalog for longer than {limit} (statement-timeout)"));
                } else if !index.allowed {
                    run.refuse(&target);
                } else if run.context.dry_run {
                    run.would(database, &format!("{statement};  -- {reason}"));
                } else {
                    let (before, begun) = (moment(&mut session).await?, Instant::now());
                    match session.execute_within(&statement, run, self.statement_timeout).await? {
                        Ended::Done => {
                            let took = begun.elapsed();
                            let wal = (moment(&mut session).await?.lsn - before.lsn).unsigned_abs();
                            let asked = "select relpages::bigint * pg_catalog.current_setting('block_size')::bigint as bytes from pg_catalog.pg_class where oid = $1::bigint::oid";
                            let size: Option<Size> =
                                session.row_of("read the size of the index", asked, index.oid).await?;
                            let after = size.map(|size| size.bytes.unsigned_abs());
                            run.record(&target, Ending::Done, reason.clone(), after, Some(wal), took);
                            let built = Index { bytes: after.unwrap_or(bytes) as i64, ..index.clone() };
                            if let Some(bytes_per_row) = built.bytes_per_row() {
                                memory.insert(key, RebuiltSize { bytes_per_row, rebuilt: true });
                            }
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
