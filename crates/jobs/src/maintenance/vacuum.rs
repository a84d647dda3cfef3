//! Vacuum by need (reference 000: daily maintenance, VACUUM ANALYZE on all user tables).

use super::{
    run::{AFTER_BUDGET, MaintenanceRun, MaintenanceTarget, class},
    session::{Ended, MaintenanceSession},
    table::{Measure, Need, TableActivity, tables},
};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{
    detail::{Detail, Value},
    finding::{Finding, Severity},
    human,
    maintenance::{Action, AdviceRecord, Ending, Recommendation},
    options,
    outcome::{Outcome, Record},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

options! {
    /// Vacuums and analyzes the tables that need it, worst first. A table needs it when its dead rows or insertions reach
    /// `threshold-share` of its own autovacuum thresholds, when its age comes close to the point where the server forces a freeze, or
    /// when it was never analyzed. If the same table needs it night after night, the job recommends settings for that
    /// table.
    pub struct Vacuum {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// Vacuum every table, whether it needs it or not.
        all: bool = "false";
        /// How long the job may run: work not expected to finish in this time is not started, and a statement still
        /// running at the end is cancelled. A `timeout` shorter than this plus five minutes is raised to that.
        time_budget: Duration = "\"2h\"";
        /// A table is due at this percentage of its own autovacuum threshold: at 100 autovacuum would do it itself.
        threshold_share: u8 = "50";
        /// Tables that the server would have to freeze within this time, at the current rate of transactions, are frozen
        /// now.
        freeze_runway: Duration = "\"14d\"";
        /// How long to wait for a lock. A locked table is skipped and tried once more at the end.
        lock_timeout: Duration = "\"5s\"";
        /// How long to pause whenever `cost-limit` is used up, so that others get their share of the disks; `0s` means no
        /// pause.
        cost_delay: Duration = "\"2ms\"";
        /// How much work to do between two pauses, counted like the server's `vacuum_cost_limit`; autovacuum uses 200 by
        /// default.
        cost_limit: u16 = "200";
        /// Additional worker processes for vacuuming a table's indexes.
        parallel_workers: u8 = "0";
        /// How much of the server's buffers it may use, from PostgreSQL 16 on; by default the server decides.
        buffer_usage_limit: Option<ByteSize>;
    }
}

/// In so many runs one after the other a table needs it before settings are recommended.
const HABIT: u32 = 3;

/// What one run leaves to the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// When, and the server's newest transaction then.
    transaction: Option<(DateTime<Utc>, i64)>,
    /// How long each table took, seconds, and in how many runs in a row dead rows were the reason.
    tables: BTreeMap<String, Habit>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Habit {
    seconds: f64,
    runs: u32,
    /// Whether the budget was over before it was done.
    #[serde(default)]
    unfinished: bool,
}

/// A table and what it needs.
struct Task {
    database: String,
    table: TableActivity,
    need: Need,
}

impl Task {
    fn key(&self) -> String {
        format!("{} {}", self.database, self.table.name)
    }

    fn target(&self) -> MaintenanceTarget<'_> {
        MaintenanceTarget {
            database: &self.database,
            object: &self.table.name,
            action: Action::Vacuum,
            reason: &self.need.reason,
            bytes: self.table.size(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct After {
    bytes: i64,
    dead: f64,
    xid: f64,
    vacuumed: Option<DateTime<Utc>>,
    /// Whether the server counts what is done at all.
    counted: bool,
}

#[derive(sqlx::FromRow)]
struct Holder {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    who: String,
}

#[derive(sqlx::FromRow)]
pub(super) struct Moment {
    at: DateTime<Utc>,
    transaction: i64,
    /// Bytes of WAL written.
    pub lsn: i64,
}

/// What became of a table.
enum Worked {
    Done(Duration),
    Locked,
    /// Cancelled after so long.
    Cancelled(Duration),
    LeftOut,
}

#[async_trait]
impl Job for Vacuum {
    fn least_timeout(&self) -> Duration {
        self.time_budget + AFTER_BUDGET
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut run = MaintenanceRun::new(context, self.time_budget, self.lock_timeout);
        let Some(databases) = run.databases_of_primary(&self.databases).await? else {
            return Ok(Outcome { summary: STANDBY.into(), ..Outcome::default() });
        };
        let before: Memory = context.memory();
        let (mut tasks, transaction) = self.choose(&mut run, &databases, &before, false).await?;
        let mut memory = Memory { transaction, tables: before.tables };
        memory.tables.retain(|_, habit| habit.seconds >= 1.0 || habit.runs > 0 || habit.unfinished);
        // What did not fit the whole budget last time must not keep the others from being done again.
        tasks.sort_by_key(|task| memory.tables.get(&task.key()).is_some_and(|habit| habit.unfinished));
        let worked = self.work_all(&mut run, &tasks, &mut memory).await;
        let mut outcome = run.end(worked, "no table needs it").await?;
        outcome.findings.extend(unfinished(&tasks, &memory, self.time_budget));
        if !context.dry_run {
            outcome.records.push(Record::Advice(advice(&tasks, &memory)));
            outcome.state = serde_json::to_value(memory).ok();
        }
        Ok(outcome)
    }
}

/// Said of a table that somebody else has locked.
const LOCKED: &str = "locked by another session";
/// Said of a server that is no primary.
pub(super) const STANDBY: &str = "the server is a standby: nothing to do";

impl Vacuum {
    /// A vacuum of the catalogues alone, for the job that also builds their indexes anew.
    pub(super) fn of_catalogues(time_budget: Duration, lock_timeout: Duration) -> Self {
        Self {
            databases: Vec::new(),
            all: false,
            time_budget,
            threshold_share: 50,
            freeze_runway: Duration::ZERO,
            lock_timeout,
            cost_delay: Duration::from_millis(2),
            cost_limit: 200,
            parallel_workers: 0,
            buffer_usage_limit: None,
        }
    }

    /// Vacuums the catalogues of these databases that need it.
    pub(super) async fn catalogues(&self, run: &mut MaintenanceRun<'_>, databases: &[String]) -> Result<(), JobError> {
        let (tasks, _) = self.choose(run, databases, &Memory::default(), true).await?;
        self.work_all(run, &tasks, &mut Memory::default()).await
    }

    /// Works off the tables; those that somebody else has locked once more at the end.
    async fn work_all(
        &self,
        run: &mut MaintenanceRun<'_>,
        tasks: &[Task],
        memory: &mut Memory,
    ) -> Result<(), JobError> {
        let needed: BTreeSet<_> = tasks.iter().filter(|task| task.need.dead).map(Task::key).collect();
        memory.tables.iter_mut().filter(|(key, _)| !needed.contains(*key)).for_each(|(_, habit)| habit.runs = 0);
        let mut locked = Vec::new();
        for task in tasks {
            let habit = memory.tables.entry(task.key()).or_default();
            habit.runs += u32::from(task.need.dead);
            // Nobody knows how long one takes that was never done: it gets what is left.
            let expected = if habit.unfinished { 0.0 } else { habit.seconds };
            match self.work(run, task, Duration::from_secs_f64(expected)).await? {
                Worked::Done(took) => (habit.seconds, habit.unfinished) = (took.as_secs_f64(), false),
                Worked::Cancelled(took) => (habit.seconds, habit.unfinished) = (took.as_secs_f64(), true),
                Worked::Locked => locked.push(task),
                Worked::LeftOut => {}
            }
        }
        for task in locked {
            if matches!(self.work(run, task, Duration::ZERO).await?, Worked::Locked) {
                run.skip_behind(&task.target(), LOCKED);
            }
        }
        Ok(())
    }

    /// The tables in need, worst first, and the server's newest transaction.
    async fn choose(
        &self,
        run: &mut MaintenanceRun<'_>,
        databases: &[String],
        before: &Memory,
        system: bool,
    ) -> Result<(Vec<Task>, Option<(DateTime<Utc>, i64)>), JobError> {
        let (mut tasks, mut newest, mut shared) = (Vec::new(), None, false);
        for database in databases {
            let Some(session) = run.session(database).await? else { continue };
            let moment: Vec<Moment> = session.rows("ask for the time", include_str!("moment.sql")).await?;
            newest = moment.first().map(|moment| (moment.at, moment.transaction));
            let measure = Measure {
                share: f64::from(self.threshold_share.max(1)) / 100.0,
                runway: TimeDelta::from_std(self.freeze_runway).unwrap_or(TimeDelta::MAX),
                transactions: before.transaction.zip(newest).and_then(|(before, now)| rate(before, now)),
                all: self.all,
            };
            for table in tables(session).await? {
                // Those that all databases share are done once.
                if table.system != system || (table.shared && shared) {
                    continue;
                }
                if let Some(need) = table.vacuum(&measure) {
                    tasks.push(Task { database: database.clone(), table, need });
                }
            }
            shared = true;
        }
        // Catalogues take moments: which comes first is nothing, and a session for each is much.
        let class = |task: &Task| if system { 0 } else { class(task.need.score) };
        tasks.sort_by(|a, b| {
            let worst = b.need.score.total_cmp(&a.need.score).then(b.table.bytes.cmp(&a.table.bytes));
            class(b).cmp(&class(a)).then_with(|| a.database.cmp(&b.database)).then(worst)
        });
        Ok((tasks, newest))
    }

    fn statement(&self, task: &Task, major: u32) -> String {
        let mut options = vec!["ANALYZE".to_owned(), "SKIP_LOCKED".into()];
        if task.need.freeze {
            options.push("FREEZE".into());
        }
        options.push(format!("PARALLEL {}", self.parallel_workers));
        if let Some(limit) = self.buffer_usage_limit.filter(|_| major >= 16) {
            // The least and the most that the server takes.
            options.push(format!("BUFFER_USAGE_LIMIT '{}kB'", (limit.as_u64() >> 10).clamp(128, 16 << 20)));
        }
        format!("VACUUM ({}) {}", options.join(", "), task.table.name)
    }

    /// Vacuums one table, which takes about so long.
    async fn work(&self, run: &mut MaintenanceRun<'_>, task: &Task, expected: Duration) -> Result<Worked, JobError> {
        let target = task.target();
        if !task.table.allowed {
            run.refuse(&target);
            return Ok(Worked::LeftOut);
        }
        // Before a session is opened: there may be thousands left.
        if let Some(reason) = run.closed_to(expected) {
            run.skip(&target, reason);
            return Ok(Worked::LeftOut);
        }
        let Some(mut session) = run.take_session(&task.database).await? else { return Ok(Worked::LeftOut) };
        let statement = self.statement(task, session.major);
        let mut worked = Worked::LeftOut;
        if run.context.dry_run {
            let size = human::size(task.table.size());
            run.would(&task.database, &format!("{statement};  -- {}, {size}", task.need.reason));
        } else {
            worked = self.vacuum(run, &mut session, task, &statement).await?;
        }
        run.return_session(session);
        Ok(worked)
    }

    async fn vacuum(
        &self,
        run: &mut MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        task: &Task,
        statement: &str,
    ) -> Result<Worked, JobError> {
        let target = task.target();
        let delay = (self.cost_delay.as_secs_f64() * 1000.0).min(100.0);
        session.set(&format!("vacuum_cost_delay = {delay}")).await?;
        session.set(&format!("vacuum_cost_limit = {}", self.cost_limit.clamp(1, 10_000))).await?;
        let before = moment(session).await?;
        let begun = Instant::now();
        let ended = session.execute(statement, run).await?;
        let took = begun.elapsed();
        match ended {
            Ended::Done => {}
            Ended::Locked => return Ok(Worked::Locked),
            ended => {
                run.record_ending(&target, &ended, took);
                let cancelled = matches!(ended, Ended::Cancelled(_)) && !run.context.cancel.is_cancelled();
                return Ok(if cancelled { Worked::Cancelled(took) } else { Worked::LeftOut });
            }
        }
        let after: Option<After> =
            session.row_of("read the statistics of the table", include_str!("vacuumed.sql"), task.table.oid).await?;
        let Some(after) = after else {
            run.record_ending(&target, &Ended::Gone, took);
            return Ok(Worked::LeftOut);
        };
        // SKIP_LOCKED says so by a warning only; the server counts what it has done.
        if after.counted && after.vacuumed.is_none_or(|at| at < before.at) {
            return Ok(Worked::Locked);
        }
        let mut reason = task.need.reason.clone();
        let stays = match task.need {
            Need { dead: true, .. } if after.dead > 0.2 * task.table.dead => {
                Some(format!("{:.0} dead rows remain", after.dead))
            }
            Need { freeze: true, .. } if after.xid > 0.5 * task.table.xid => {
                Some(format!("its age is still {:.1} million", after.xid / 1e6))
            }
            _ => None,
        };
        if let Some(stays) = stays {
            reason.push_str(&format!("; {stays}"));
            let holders: Vec<Holder> = session.rows("look for what holds them", include_str!("holders.sql")).await?;
            if let Some(Holder { kind, who }) = holders.first() {
                reason.push_str(&format!(", held by the {kind} {who}"));
            }
        }
        let wal = moment(session).await?.lsn - before.lsn;
        run.record(&target, Ending::Done, reason, Some(after.bytes.unsigned_abs()), Some(wal.unsigned_abs()), took);
        Ok(Worked::Done(took))
    }
}

pub(super) async fn moment(session: &mut MaintenanceSession) -> Result<Moment, JobError> {
    let rows = session.rows("ask for the time", include_str!("moment.sql")).await?;
    rows.into_iter().next().ok_or_else(|| JobError::passing("the server did not return the time"))
}

/// Transactions a day between two checks, where they are far enough from each other.
fn rate(before: (DateTime<Utc>, i64), now: (DateTime<Utc>, i64)) -> Option<f64> {
    let days = (now.0 - before.0).as_seconds_f64() / 86_400.0;
    (days > 0.04 && now.1 >= before.1).then(|| (now.1 - before.1) as f64 / days)
}

/// That tables do not fit the budget.
fn unfinished(tasks: &[Task], memory: &Memory, budget: Duration) -> Option<Finding> {
    let unfinished = |task: &&Task| memory.tables.get(&task.key()).is_some_and(|habit| habit.unfinished);
    let left: Vec<_> = tasks.iter().filter(unfinished).collect();
    (!left.is_empty()).then(|| {
        let summary = format!("{} not vacuumed within the time budget", human::count(left.len(), "table"));
        let rows = left.iter().map(|task| [Value::of(&task.database), Value::of(&task.table.name)]);
        let budget = human::duration(budget);
        Finding::new(Severity::Warning, "time budget", summary)
            .meaning(format!("The budget of {budget} ran out before they were done; from now on they come last."))
            .advice("Give the job a larger time-budget or cost-limit, or vacuum them by hand once.")
            .detail(Detail::new().table(["database", "table"], rows))
    })
}

/// Settings for tables that were in need run after run.
fn advice(tasks: &[Task], memory: &Memory) -> AdviceRecord {
    let settings = |task: &Task| {
        let runs = memory.tables.get(&task.key()).map_or(0, |habit| habit.runs);
        // Autovacuum is to come when a quarter of what was found now is there.
        let (rows, dead) = (task.table.rows.max(1.0), task.table.dead);
        let scale = ((dead / 4.0 - 1000.0) / rows).clamp(0.001, 0.2);
        let toast = if task.table.toast_share > task.table.dead_share { "toast." } else { "" };
        (runs >= HABIT).then(|| Recommendation {
            database: task.database.clone(),
            topic: "autovacuum".into(),
            object: task.table.name.clone(),
            reason: format!("needed a vacuum in {runs} runs in a row: autovacuum should run earlier"),
            figure: dead,
            unit: "dead rows".into(),
            statement: format!(
                "ALTER TABLE {} SET ({toast}autovacuum_vacuum_scale_factor = {scale:.3}, \
                 {toast}autovacuum_vacuum_threshold = 1000);",
                task.table.name
            ),
        })
    };
    AdviceRecord { given: tasks.iter().filter_map(settings).collect(), unknown: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::clock;

    #[test]
    fn transactions_a_day() {
        let at = |hours| clock::now() + TimeDelta::hours(hours);
        assert_eq!(rate((at(0), 1000), (at(0), 2000)), None, "too soon");
        let rate = rate((at(0), 1000), (at(12), 51_000)).unwrap();
        assert!((rate - 100_000.0).abs() < 10.0, "{rate}");
    }

    #[test]
    fn statements_say_what_the_server_knows() {
        let vacuum = Vacuum {
            parallel_workers: 2,
            buffer_usage_limit: Some(ByteSize::mib(2)),
            ..Vacuum::of_catalogues(Duration::ZERO, Duration::ZERO)
        };
        let need = Need { score: 0.0, reason: String::new(), freeze: true, dead: false };
        let table = TableActivity { name: "public.t".into(), ..TableActivity::default() };
        let task = Task { database: "app".into(), table, need };
        assert_eq!(vacuum.statement(&task, 15), "VACUUM (ANALYZE, SKIP_LOCKED, FREEZE, PARALLEL 2) public.t");
        assert_eq!(
            vacuum.statement(&task, 16),
            "VACUUM (ANALYZE, SKIP_LOCKED, FREEZE, PARALLEL 2, BUFFER_USAGE_LIMIT '2048kB') public.t"
        );
    }
}
