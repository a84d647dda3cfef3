//! What a person should decide about: indexes and tables that cost more than they bring (reference 000: weekly maintenance,
//! bloat analysis and performance optimization recommendations).
//!
//! Invariant: nothing is changed. Each topic is one query, which says object, reason, figure, unit and the SQL.

use super::{run::MaintenanceRun, vacuum::STANDBY};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{
    clock, human,
    maintenance::{AdviceRecord, Recommendation},
    options,
    outcome::{Outcome, Record},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

options! {
    /// Looks for indexes that are unused, duplicate or invalid, foreign keys without an index, tables that would be much
    /// smaller if they were rewritten, and settings that do not fit a table. It changes nothing: the reason, a number and
    /// the SQL for each are kept in `dba_ops.recommendations` and shown in the performance report.
    pub struct Advice {
        /// The databases; by default all that accept connections.
        databases: Vec<String> = "[]";
        /// Smaller indexes and tables are ignored.
        minimum_size: ByteSize = "\"10MiB\"";
        /// An index counts as unused after this job has seen no reads of it for this many days.
        unused_days: u32 = "30";
    }
}

const UNUSED: &str = "unused-index";
const DUPLICATE: &str = "duplicate-index";

const TOPICS: [(&str, &str); 7] = [
    (DUPLICATE, include_str!("advice/duplicate_indexes.sql")),
    (UNUSED, include_str!("advice/unused_indexes.sql")),
    ("invalid-index", include_str!("advice/invalid_indexes.sql")),
    ("foreign-key", include_str!("advice/foreign_keys.sql")),
    ("repack", concat!(include_str!("../monitors/health/bloat_estimate.sql"), include_str!("advice/repack.sql"))),
    ("fillfactor", include_str!("advice/fillfactor.sql")),
    ("autovacuum", include_str!("advice/autovacuum.sql")),
];

/// How often each index was read when that last changed, by database and number.
type Memory = BTreeMap<String, (i64, DateTime<Utc>)>;

#[derive(Clone, Debug, sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    object: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    reason: String,
    figure: f64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    unit: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    statement: String,
    /// Of a duplicate: the index that makes it one.
    #[sqlx(default)]
    other: Option<String>,
    /// Of an index: what identifies it, and how often it was read.
    #[sqlx(default)]
    oid: Option<i64>,
    #[sqlx(default)]
    scans: Option<i64>,
}

#[async_trait]
impl Job for Advice {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut run = MaintenanceRun::new(context, Duration::from_secs(86_400), Duration::from_secs(2));
        let Some(databases) = run.databases_of_primary(&self.databases).await? else {
            return Ok(Outcome { summary: STANDBY.into(), ..Outcome::default() });
        };
        let before: Memory = context.memory();
        let (mut given, mut memory, mut silent, mut unknown) = (Vec::new(), Memory::new(), Vec::new(), Vec::new());
        for database in &databases {
            let Some(session) = run.session(database).await? else {
                unknown.push((database.clone(), None));
                continue;
            };
            let mut judged = BTreeSet::new();
            for (topic, sql) in TOPICS {
                let rows = session.rows_of("look for recommendations", sql, self.minimum()).await;
                let mut rows: Vec<Row> = rows.unwrap_or_else(|error| {
                    silent.push(format!("{topic} in {database}: {}", human::chain(&error)));
                    unknown.push((database.clone(), Some(topic.to_owned())));
                    Vec::new()
                });
                if topic == DUPLICATE {
                    // What another relies on must stay, and what goes need not be named twice.
                    judged.extend(rows.iter().flat_map(|row| [row.other.clone(), Some(row.object.clone())]).flatten());
                } else if topic == UNUSED {
                    rows.retain(|row| {
                        self.is_unused(database, row, &before, &mut memory) && !judged.contains(&row.object)
                    });
                }
                given.extend(rows.into_iter().map(|row| recommendation(database, topic, row)));
            }
        }
        // Nor does the time of what could not be checked begin anew.
        for (database, topic) in &unknown {
            if topic.as_deref().is_none_or(|topic| topic == UNUSED) {
                let known = before.iter().filter(|(key, _)| key.starts_with(&format!("{database} ")));
                memory.extend(known.map(|(key, known)| (key.clone(), *known)));
            }
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        given.iter().for_each(|given: &Recommendation| *counts.entry(&given.topic).or_default() += 1);
        let told: Vec<_> = counts.iter().map(|(topic, count)| format!("{count} {topic}")).collect();
        let mut summary = match given.len() {
            0 => "nothing to recommend".to_owned(),
            total => format!("{}: {}", human::count(total, "recommendation"), told.join(", ")),
        };
        if let Some(first) = silent.first() {
            summary.push_str(&format!(
                "; {} could not be checked, for example {first}",
                human::count(silent.len(), "topic")
            ));
        }
        let mut outcome = Outcome { summary, ..run.end(Ok(()), "").await? };
        if !context.dry_run {
            outcome.records.push(Record::Advice(AdviceRecord { given, unknown }));
            outcome.state = serde_json::to_value(memory).ok();
        }
        Ok(outcome)
    }
}

impl Advice {
    fn minimum(&self) -> i64 {
        i64::try_from(self.minimum_size.as_u64()).unwrap_or(i64::MAX)
    }

    /// Whether it was not read since long enough. A counter that began anew begins the time anew.
    fn is_unused(&self, database: &str, row: &Row, before: &Memory, memory: &mut Memory) -> bool {
        let (Some(oid), Some(scans)) = (row.oid, row.scans) else { return false };
        let (key, now) = (format!("{database} {oid}"), clock::now());
        let since = before.get(&key).filter(|(known, _)| *known == scans).map_or(now, |(_, since)| *since);
        memory.insert(key, (scans, since));
        now - since >= TimeDelta::days(self.unused_days.into())
    }
}

fn recommendation(database: &str, topic: &str, row: Row) -> Recommendation {
    let Row { object, reason, figure, unit, statement, .. } = row;
    Recommendation { database: database.to_owned(), topic: topic.to_owned(), object, reason, figure, unit, statement }
}
