//! Indexes built anew by measured bloat (reference 000: weekly index maintenance, REINDEX on all indexes, bloat analysis).

mod guard;
mod leftovers;

use super::{
    index::{Bloat, Density, Index, RebuiltSize, indexes},
    run::{AFTER_BUDGET, MaintenanceRun, MaintenanceTarget, REFUSED, class},
    session::{Ended, MaintenanceSession},
    vacuum::{STANDBY, moment},
};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use guard::Guard;
use pgbosun_core::{
    human,
    maintenance::{Action, Ending},
    options,
    outcome::Outcome,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

options! {
    /// Rebuilds bloated indexes, worst first, with REINDEX CONCURRENTLY, which blocks nobody. Bloat is estimated from
    /// fresh statistics, measured if the extension pgstattuple is installed, and compared with the size of each index
    /// when it was last built. Leftovers of an interrupted reindex are removed first.
    pub struct Reindex {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// Rebuild every index, bloated or not; `minimum-size` still applies.
        all: bool = "false";
        /// How long the job may run: work not expected to finish in this time is not started, and a statement still
        /// running at the end is cancelled. A `timeout` shorter than this plus five minutes is raised to that.
        time_budget: Duration = "\"2h\"";
        /// Smaller indexes are left alone.
        minimum_size: ByteSize = "\"16MiB\"";
        /// Rebuild an index from this much bloat on, in percent of its size.
        bloat_limit: u8 = "30";
        /// How long to wait for the lock on a table; meanwhile others may queue behind it.
        lock_timeout: Duration = "\"30s\"";
        /// How often to retry an index whose lock could not be acquired.
        lock_retries: u8 = "3";
        /// How long to wait for anything in the way of an index. Before the build: a base backup, a lagging standby, a
        /// transaction that is prepared or older than `lock-timeout`. During the build: transactions that have to end,
        /// which delays only sessions that alter or vacuum the table. After that the index is skipped.
        patience: Duration = "\"5m\"";
        /// How far the slowest standby may lag behind, in bytes of WAL.
        lag_limit: ByteSize = "\"256MiB\"";
        /// How much WAL to write per second on average: after each index the job pauses long enough to stay below it, so
        /// that commits, standbys and the archive keep up. `0B` means no limit.
        wal_rate: ByteSize = "\"16MiB\"";
        /// How much disk space must stay free for index and WAL, beyond what the build takes; only checked if
        /// `data-directory` is configured.
        keep_free: ByteSize = "\"1GiB\"";
        /// Additional worker processes for building an index.
        parallel_workers: u8 = "0";
    }
}

/// How long it is waited before a lock is tried for again.
const PAUSE: Duration = Duration::from_secs(5);

/// What one run leaves to the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// What each index took at its best, by database and name.
    baselines: BTreeMap<String, RebuiltSize>,
    /// How much was read and written a second.
    speed: Option<f64>,
}

/// An index and how bloated it is.
struct Task {
    database: String,
    index: Index,
    reason: String,
    wasted: f64,
}

impl Task {
    fn target(&self) -> MaintenanceTarget<'_> {
        MaintenanceTarget {
            database: &self.database,
            object: &self.index.name,
            action: Action::Reindex,
            reason: &self.reason,
            bytes: self.index.bytes.unsigned_abs(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Built {
    bytes: i64,
    rows: f64,
}

fn key(database: &str, index: &Index) -> String {
    format!("{database} {}", index.name)
}

#[async_trait]
impl Job for Reindex {
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
        let mut outcome = run.end(worked, "no index is bloated").await?;
        if !context.dry_run {
            outcome.state = serde_json::to_value(memory).ok();
        }
        Ok(outcome)
    }
}

impl Reindex {
    async fn work_all(
        &self,
        run: &mut MaintenanceRun<'_>,
        databases: &[String],
        memory: &mut Memory,
    ) -> Result<(), JobError> {
        let (mut tasks, mut seen, mut away) = (Vec::new(), BTreeSet::new(), Vec::new());
        for database in databases {
            let Some(mut session) = run.take_session(database).await? else {
                away.push(format!("{database} "));
                continue;
            };
            leftovers::remove(run, &mut session, None).await?;
            tasks.extend(self.choose(run, &mut session, memory, &mut seen).await?);
            run.return_session(session);
        }
        // What is known of a database that did not let us in this time stays known.
        memory.baselines.retain(|key, _| seen.contains(key) || away.iter().any(|begin| key.starts_with(begin)));
        tasks.sort_by(|a, b| {
            let place = a.database.cmp(&b.database).then(b.wasted.total_cmp(&a.wasted));
            class(b.wasted).cmp(&class(a.wasted)).then(place)
        });
        let mut guard = Guard::new(self, run.context)?;
        for task in &tasks {
            if let Some(reason) = self.left_out(run, task, memory) {
                run.skip(&task.target(), reason);
                continue;
            }
            let Some(mut session) = run.take_session(&task.database).await? else { continue };
            self.work(run, &mut session, task, &mut guard, memory).await?;
            run.return_session(session);
        }
        Ok(())
    }

    /// The bloated indexes of a database, by statistics as they are now.
    async fn choose(
        &self,
        run: &mut MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        memory: &mut Memory,
        seen: &mut BTreeSet<String>,
    ) -> Result<Vec<Task>, JobError> {
        let minimum = self.minimum_size.as_u64();
        let database = session.database.clone();
        let known = |memory: &Memory, index: &Index| memory.baselines.get(&key(&database, index)).copied();
        let mut listed = indexes(session, minimum).await?;
        let suspicious: BTreeMap<_, _> = listed
            .iter()
            // TOAST has no statistics to refresh.
            .filter(|index| index.toast_of.is_none() && self.is_bloated(index.bloat(known(memory, index)).as_ref()))
            .map(|index| (index.table, index.table_name.clone()))
            .collect();
        if self.refresh(run, session, &suspicious).await? {
            listed = indexes(session, minimum).await?;
        }
        let mut tasks = Vec::new();
        for index in listed.into_iter().filter(|index| !index.system && index.valid) {
            let mut bloat = index.bloat(known(memory, &index));
            // What statistics do not tell is measured too.
            if index.btree && (bloat.is_none() || self.is_bloated(bloat.as_ref())) {
                bloat = measured(run, session, &index).await?.or(bloat);
            }
            if index.btree && index.unseen && bloat.is_none() {
                run.cannot_see(&database, &index.table_name);
            }
            seen.insert(key(&database, &index));
            if let Some(baseline) = index.baseline(known(memory, &index)) {
                memory.baselines.insert(key(&database, &index), baseline);
            }
            if self.all || self.is_bloated(bloat.as_ref()) {
                let mut reason = bloat.as_ref().map_or_else(|| "all = true".to_owned(), Bloat::told);
                if let Some(table) = &index.toast_of {
                    reason = format!("{reason}, TOAST of {table}");
                }
                let wasted = bloat.map_or(0.0, |bloat| bloat.bytes);
                tasks.push(Task { database: database.clone(), index, reason, wasted });
            }
        }
        Ok(tasks)
    }

    fn is_bloated(&self, bloat: Option<&Bloat>) -> bool {
        bloat.is_some_and(|bloat| bloat.share * 100.0 >= f64::from(self.bloat_limit.max(1)))
    }

    /// Refreshes the statistics of tables that changed since they were analyzed; whether there were any.
    async fn refresh(
        &self,
        run: &mut MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        tables: &BTreeMap<i64, String>,
    ) -> Result<bool, JobError> {
        #[derive(sqlx::FromRow)]
        struct Stale {
            bytes: i64,
        }
        let mut refreshed = false;
        for (oid, table) in tables {
            let stale: Option<Stale> =
                session.row_of("ask for the age of statistics", include_str!("reindex/stale.sql"), *oid).await?;
            let Some(Stale { bytes }) = stale else { continue };
            let database = session.database.clone();
            if run.context.dry_run {
                run.would(&database, &format!("ANALYZE {table};  -- to estimate the bloat of its indexes"));
            }
            if run.context.dry_run || run.closed_to(Duration::ZERO).is_some() {
                continue;
            }
            let (action, reason) = (Action::Analyze, "to estimate the bloat of its indexes");
            let target =
                MaintenanceTarget { database: &database, object: table, action, reason, bytes: bytes.unsigned_abs() };
            let begun = Instant::now();
            match session.execute(&format!("ANALYZE {table}"), run).await? {
                Ended::Done => {
                    refreshed = true;
                    run.record(&target, Ending::Done, reason.into(), Some(target.bytes), None, begun.elapsed());
                }
                ended => run.record_ending(&target, &ended, begun.elapsed()),
            }
        }
        Ok(refreshed)
    }

    async fn work(
        &self,
        run: &mut MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        task: &Task,
        guard: &mut Guard<'_>,
        memory: &mut Memory,
    ) -> Result<(), JobError> {
        let (target, index) = (task.target(), &task.index);
        let statement = format!("REINDEX INDEX CONCURRENTLY {}", index.name);
        if run.context.dry_run {
            run.would(&task.database, &format!("{statement};  -- {}", task.reason));
            return Ok(());
        }
        session.set(&format!("max_parallel_maintenance_workers = {}", self.parallel_workers)).await?;
        for attempt in 0..=self.lock_retries {
            if let Some(reason) = guard.rest(run).await {
                run.skip(&target, reason);
                return Ok(());
            }
            if let Some((reason, others)) = guard.in_the_way(run, session, index).await? {
                match others {
                    true => run.skip_behind(&target, reason),
                    false => run.skip(&target, reason),
                }
                return Ok(());
            }
            // That may have taken a while.
            if let Some(reason) = self.left_out(run, task, memory) {
                run.skip(&target, reason);
                return Ok(());
            }
            let (before, begun) = (moment(session).await?, Instant::now());
            let waits = (self.lock_timeout, self.patience);
            let ended = session.execute_patiently(&statement, run, waits).await?;
            let took = begun.elapsed();
            let wal = (moment(session).await?.lsn - before.lsn).unsigned_abs();
            // What others wrote meanwhile is theirs.
            guard.wrote(wal.min(index.bytes.unsigned_abs()), begun);
            let left =
                if ended == Ended::Done { 0 } else { leftovers::remove(run, session, Some(index.table)).await? };
            // It may be in its place already where the statement was ended while it removed the old one.
            if ended == Ended::Done || is_replaced(session, index).await? {
                return self.built(run, session, task, memory, (took, wal)).await;
            }
            if ended != Ended::Locked || attempt == self.lock_retries || left > 0 {
                run.record_ending(&target, &ended, took);
                return Ok(());
            }
            tracing::info!("{}: its table was locked, trying again", index.name);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Why an index is not built at this moment.
    fn left_out(&self, run: &MaintenanceRun<'_>, task: &Task, memory: &Memory) -> Option<String> {
        let index = &task.index;
        if index.exclusion {
            let reason =
                "it belongs to an exclusion constraint and can only be rebuilt while nobody writes to the table";
            return Some(format!("{}; {reason}", task.reason));
        }
        if !index.allowed {
            return Some(format!("{REFUSED}: it does not own the table"));
        }
        // Without experience it is tried: otherwise there never would be any.
        let expected = memory.speed.map_or(Duration::ZERO, |speed| Duration::from_secs_f64(index.work() / speed));
        let hopeless = expected > self.time_budget;
        run.closed_to(if hopeless && run.is_idle() { Duration::ZERO } else { expected })
    }

    /// Writes down what an index takes now that it is new.
    async fn built(
        &self,
        run: &mut MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        task: &Task,
        memory: &mut Memory,
        (took, wal): (Duration, u64),
    ) -> Result<(), JobError> {
        let index = &task.index;
        let built: Option<Built> =
            session.row_named("read the size of the index", include_str!("reindex/built.sql"), &index.name).await?;
        let after = built.as_ref().map(|built| built.bytes.unsigned_abs());
        run.record(&task.target(), Ending::Done, task.reason.clone(), after, Some(wal), took);
        if let Some(built) = built.filter(|built| built.rows >= 1.0) {
            let baseline = RebuiltSize { bytes_per_row: built.bytes as f64 / built.rows, rebuilt: true };
            memory.baselines.insert(key(&task.database, index), baseline);
        }
        // A small one says more about the waiting than about the building.
        if took > Duration::from_secs(5) {
            let speed = index.work() / took.as_secs_f64();
            memory.speed = Some(memory.speed.map_or(speed, |known| f64::midpoint(known, speed)));
            tracing::info!("{} rebuilt at {}/s", index.name, human::size(speed as u64));
        }
        Ok(())
    }
}

/// How bloated an index is, where pgstattuple can tell.
async fn measured(
    run: &mut MaintenanceRun<'_>,
    session: &mut MaintenanceSession,
    index: &Index,
) -> Result<Option<Bloat>, JobError> {
    if run.context.dry_run || run.closed_to(Duration::ZERO).is_some() {
        return Ok(None);
    }
    let Some(extension) = session.extension("pgstattuple").await? else { return Ok(None) };
    // C39: an estimate is good enough where others might answer in its place.
    let Ok(schema) = extension.schema() else { return Ok(None) };
    let (_, answer) = session.ask(&Density::query(schema, index.oid), run).await?;
    Ok(answer.first().and_then(|answer| Density::read(answer)).map(|density| index.measured(&density)))
}

/// Whether another index has its name by now.
async fn is_replaced(session: &mut MaintenanceSession, index: &Index) -> Result<bool, JobError> {
    #[derive(sqlx::FromRow)]
    struct Named {
        oid: i64,
    }
    let asked = "select pg_catalog.to_regclass($1)::oid::bigint as oid where pg_catalog.to_regclass($1) is not null";
    let named: Option<Named> = session.row_named("look for the index", asked, &index.name).await?;
    Ok(named.is_some_and(|named| named.oid != index.oid))
}
