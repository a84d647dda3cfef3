//! Structure checked while everybody works: amcheck, a share each time (reference 000 checks integrity of backups only; the
//! server itself is examined here).

use super::{
    run::{AFTER_BUDGET, MaintenanceRun, MaintenanceTarget},
    session::{Ended, MaintenanceSession},
};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    finding::{Finding, Severity},
    human,
    maintenance::{Action, AdviceRecord, Ending, Recommendation},
    options,
    outcome::{Outcome, Record},
};
use pgbosun_postgres::ForeignSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

options! {
    /// Checks indexes and tables with amcheck, using only functions that block nobody, and continues where the last run
    /// stopped. Counts failed page checksums. Works on a standby too.
    pub struct Integrity {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// How long the job may run.
        time_budget: Duration = "\"1h\"";
        /// Check tables too, not only indexes.
        tables: bool = "true";
        /// Tables are checked in pieces of this size, at most a thousand per table: the next run continues where this one
        /// stopped.
        table_piece: ByteSize = "\"1GiB\"";
        /// Check that every row of a table is in its B-tree indexes: this reads several times as much.
        heap_all_indexed: bool = "false";
        /// How long to wait for a lock; it only needs the weakest kind.
        lock_timeout: Duration = "\"5s\"";
    }
}

/// Pieces of one table at most.
const PIECES: i64 = 1000;
/// Faults told of one table at most.
const TOLD: usize = 20;

/// What one run leaves to the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// Up to where it came.
    place: Place,
    /// What was damaged: it is checked first in every run, until it is whole or gone.
    #[serde(default)]
    damaged: BTreeSet<Place>,
}

/// A relation, or a piece of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    database: String,
    oid: i64,
    /// Where a piece begins.
    #[serde(default)]
    block: i64,
}

#[derive(Clone, sqlx::FromRow)]
struct Relation {
    oid: i64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    bytes: i64,
    block_size: i64,
}

/// What is examined by one statement.
struct Task {
    place: Place,
    name: String,
    /// `next in rotation`, and which piece it is.
    reason: String,
    bytes: u64,
    statement: String,
}

#[derive(sqlx::FromRow)]
struct Checksums {
    enabled: bool,
    failures: i64,
}

#[async_trait]
impl Job for Integrity {
    fn least_timeout(&self) -> Duration {
        self.time_budget + AFTER_BUDGET
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut run = MaintenanceRun::new(context, self.time_budget, self.lock_timeout);
        let (databases, _) = run.databases(&self.databases).await?;
        let mut memory: Memory = context.memory();
        let mut found = Found::default();
        let worked = self.work_all(&mut run, &databases, &mut memory, &mut found).await;
        let checksums = checksums(&mut run, &databases).await;
        let mut outcome = run.end(worked, "there is nothing to check").await?;
        if !context.dry_run {
            outcome.summary.push_str(&checksums);
            outcome.findings.extend(found.findings);
            outcome.records.push(Record::Advice(AdviceRecord { given: found.advice, unknown: Vec::new() }));
            outcome.state = serde_json::to_value(memory).ok();
        }
        Ok(outcome)
    }
}

/// What is found on the way.
#[derive(Debug, Default)]
struct Found {
    findings: Vec<Finding>,
    advice: Vec<Recommendation>,
}

impl Found {
    /// Tells of damage, once for all pieces of a relation.
    fn damage(&mut self, task: &Task, words: &str) {
        let finding = damage(&task.place.database, &task.name, words);
        if !self.findings.iter().any(|known| known.object == finding.object) {
            self.findings.push(finding);
        }
    }
}

/// What became of one relation.
enum Examined {
    Whole,
    Damaged,
    /// There was no time to end it.
    Cancelled,
    /// It could not be examined, and that is no damage.
    Passed,
}

impl Integrity {
    /// Examines what was damaged, then begins after where the last run came, and goes round once.
    async fn work_all(
        &self,
        run: &mut MaintenanceRun<'_>,
        databases: &[String],
        memory: &mut Memory,
        found: &mut Found,
    ) -> Result<(), JobError> {
        let mut all = self.list(run, databases, found).await?;
        // What was damaged is checked again in the piece that holds it now.
        let piece_of = |damaged: &Place| {
            let own = |task: &&Task| (&task.place.database, task.place.oid) == (&damaged.database, damaged.oid);
            let mut pieces = all.iter().filter(own);
            let first = pieces.next()?;
            Some(pieces.take_while(|task| task.place.block <= damaged.block).last().unwrap_or(first).place.clone())
        };
        memory.damaged = memory.damaged.iter().filter_map(piece_of).collect();
        let begin = all.partition_point(|task| task.place <= memory.place);
        all.rotate_left(begin);
        let (first, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|task| memory.damaged.contains(&task.place));
        let (known, mut examined) = (first.len(), 0);
        for (number, task) in first.into_iter().chain(rest).enumerate() {
            if run.closed_to(Duration::ZERO).is_some() {
                // What is damaged stays so until it has been examined again.
                if number < known {
                    found.damage(&task, "it has not been checked again yet");
                    continue;
                }
                break;
            }
            let Some(mut session) = run.take_session(&task.place.database).await? else { continue };
            // Before it is checked: what ends the connection must not be the first of every run.
            if number >= known && examined == 0 {
                memory.place = task.place.clone();
            }
            match check(run, &mut session, &task, found).await? {
                Examined::Damaged => drop(memory.damaged.insert(task.place.clone())),
                Examined::Cancelled if examined == 0 && !run.context.cancel.is_cancelled() => {
                    found.findings.push(self.too_large(&task.place.database, &task.name));
                }
                Examined::Cancelled => {
                    run.return_session(session);
                    break;
                }
                Examined::Whole => drop(memory.damaged.remove(&task.place)),
                Examined::Passed => {}
            }
            if number >= known {
                examined += 1;
                memory.place = task.place;
            }
            run.return_session(session);
        }
        Ok(())
    }

    /// Everything that can be examined, in order.
    async fn list(
        &self,
        run: &mut MaintenanceRun<'_>,
        databases: &[String],
        found: &mut Found,
    ) -> Result<Vec<Task>, JobError> {
        let mut all = Vec::new();
        for database in databases {
            let Some(session) = run.session(database).await? else { continue };
            let Some(extension) = session.extension("amcheck").await? else {
                found.advice.push(missing(
                    database,
                    "without this extension, tables and indexes are not checked for damage",
                    "CREATE EXTENSION amcheck;",
                ));
                continue;
            };
            let schema = match extension.schema() {
                Ok(schema) => schema,
                Err(foreign) => {
                    found.advice.push(missing(database, &foreign.to_string(), &ForeignSchema::remedy("amcheck")));
                    continue;
                }
            };
            let has = |name: &str| extension.has(name);
            if !has("verify_heapam") || (session.major >= 18 && !has("gin_index_check")) {
                found.advice.push(missing(
                    database,
                    "the extension is older than the server and checks less than it could",
                    "ALTER EXTENSION amcheck UPDATE;",
                ));
            }
            let listed: Vec<Relation> = session.rows("list the relations", include_str!("relations.sql")).await?;
            all.extend(listed.iter().flat_map(|relation| self.tasks(database, relation, schema, has)));
        }
        all.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(all)
    }

    /// The statements that examine it, where there are any that keep nobody from working.
    fn tasks(&self, database: &str, relation: &Relation, schema: &str, has: impl Fn(&str) -> bool) -> Vec<Task> {
        let (oid, bytes) = (relation.oid, relation.bytes.max(0));
        let task = |block: i64, reason: &str, bytes: i64, statement: String| Task {
            place: Place { database: database.to_owned(), oid, block },
            name: relation.name.clone(),
            reason: reason.to_owned(),
            bytes: bytes.unsigned_abs(),
            statement,
        };
        let whole = |statement: String| vec![task(0, "next in rotation", bytes, statement)];
        match relation.kind.as_str() {
            "btree" => whole(format!("select {schema}.bt_index_check({oid}::regclass, {})", self.heap_all_indexed)),
            "gin" if has("gin_index_check") => whole(format!("select {schema}.gin_index_check({oid}::regclass)")),
            "heap" if self.tables && has("verify_heapam") => {
                let blocks = bytes / relation.block_size.max(1);
                let step = i64::try_from(self.table_piece.as_u64()).unwrap_or(i64::MAX) / relation.block_size.max(1);
                let step = step.max(blocks / PIECES);
                let pieces = (0..blocks.max(1)).step_by(usize::try_from(step.max(1)).unwrap_or(usize::MAX));
                let piece = |first: i64| {
                    // What was added meanwhile is of the last piece.
                    let last = first.saturating_add(step.max(1)) - 1;
                    let last = (last < blocks - 1).then_some(last);
                    let (until, reason) = match last {
                        Some(last) => (last.to_string(), format!("next in rotation, blocks {first} to {last}")),
                        None if first > 0 => {
                            ("null".to_owned(), format!("next in rotation, blocks {first} to the end"))
                        }
                        None => ("null".to_owned(), "next in rotation".to_owned()),
                    };
                    let from = if first > 0 { first.to_string() } else { "null".to_owned() };
                    // Each argument with its type: no other function of that name can fit better.
                    let statement = format!(
                        "select pg_catalog.format('block %s, row %s: %s', blkno, offnum, msg) \
                         from {schema}.verify_heapam({oid}::regclass, false, false, 'none'::text, {from}::bigint, {until}::bigint) \
                         limit {TOLD}"
                    );
                    let size =
                        last.map_or(bytes, |last| (last + 1) * relation.block_size) - first * relation.block_size;
                    task(first, &reason, size, statement)
                };
                pieces.map(piece).collect()
            }
            _ => Vec::new(),
        }
    }

    fn too_large(&self, database: &str, object: &str) -> Finding {
        let summary = format!("{object} in {database} could not be checked");
        Finding::new(Severity::Warning, format!("{database} {object} is large"), summary)
            .meaning(format!("The check takes longer than the time budget of {}.", human::duration(self.time_budget)))
            .advice("Give this job a larger time-budget.")
    }
}

/// Does one task.
async fn check(
    run: &mut MaintenanceRun<'_>,
    session: &mut MaintenanceSession,
    task: &Task,
    found: &mut Found,
) -> Result<Examined, JobError> {
    let (database, object) = (task.place.database.as_str(), task.name.as_str());
    let bytes = task.bytes;
    let target = MaintenanceTarget { database, object, action: Action::Check, reason: &task.reason, bytes };
    if run.context.dry_run {
        run.would(database, &format!("{};  -- {object}, {}", task.statement, human::size(bytes)));
        return Ok(Examined::Passed);
    }
    let begun = Instant::now();
    let (ended, faults) = session.ask(&task.statement, run).await?;
    let took = begun.elapsed();
    let faults: Vec<_> = faults.into_iter().filter(|fault| !fault.is_empty()).collect();
    let words = match ended {
        Ended::Done if faults.is_empty() => {
            run.record(&target, Ending::Done, "no problem found".into(), Some(bytes), None, took);
            return Ok(Examined::Whole);
        }
        Ended::Done => faults.join("\n"),
        // The server says the same of what was dropped meanwhile.
        Ended::Damaged(words) if is_there(session, task.place.oid).await? => words,
        Ended::Damaged(_) => {
            run.record_ending(&target, &Ended::Gone, took);
            return Ok(Examined::Passed);
        }
        ended => {
            run.record_ending(&target, &ended, took);
            let cancelled = matches!(ended, Ended::Cancelled(_));
            return Ok(if cancelled { Examined::Cancelled } else { Examined::Passed });
        }
    };
    let first = words.lines().next().unwrap_or_default();
    run.record(&target, Ending::Failed, first.to_owned(), Some(bytes), None, took);
    found.damage(task, &words);
    Ok(Examined::Damaged)
}

async fn is_there(session: &mut MaintenanceSession, oid: i64) -> Result<bool, JobError> {
    let asked = "select oid::bigint, relname::text as name, '' as kind, 0::bigint as bytes, 1::bigint as block_size from pg_catalog.pg_class where oid = $1::bigint::oid";
    Ok(session.row_of::<Relation>("look for the relation", asked, oid).await?.is_some())
}

fn damage(database: &str, object: &str, words: &str) -> Finding {
    Finding::new(Severity::Critical, format!("{database} {object}"), format!("{object} in {database} is damaged"))
        .meaning("What is on disk is not what PostgreSQL wrote: rows may be missing, wrong or duplicated.")
        .advice(
            "An index: REINDEX it, and find out why. A table: keep the last good backup safe, check disk and memory, and \
             restore from before the damage (\"pgbosun restore\").",
        )
        .detail(words)
}

fn missing(database: &str, reason: &str, statement: &str) -> Recommendation {
    Recommendation {
        database: database.to_owned(),
        topic: "amcheck".into(),
        object: "amcheck".into(),
        reason: reason.to_owned(),
        figure: 1.0,
        unit: "extension".into(),
        statement: statement.to_owned(),
    }
}

/// What is known of page checksums, as the end of a summary.
async fn checksums(run: &mut MaintenanceRun<'_>, databases: &[String]) -> String {
    let Some(database) = databases.first() else { return String::new() };
    let Ok(Some(session)) = run.session(database).await else { return String::new() };
    let asked = "select pg_catalog.current_setting('data_checksums')::bool as enabled,
                        coalesce(pg_catalog.sum(checksum_failures), 0)::bigint as failures from pg_catalog.pg_stat_database";
    let counted: Result<Vec<Checksums>, _> = session.rows("count the checksums that failed", asked).await;
    match counted.ok().and_then(|rows| rows.into_iter().next()) {
        Some(Checksums { enabled: true, failures }) => format!("; page checksums: {failures} failed"),
        Some(Checksums { enabled: false, .. }) => "; page checksums are off".into(),
        None => String::new(),
    }
}
