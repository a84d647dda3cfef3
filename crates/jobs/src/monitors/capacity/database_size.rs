//! How large databases are, and how they grow (check_postgres: database_size; check_pgactivity: database_size by delta).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

options! {
    /// Alerts when a database is larger than it may be, or grew by more than it should within a day.
    pub struct DatabaseSize {
        /// Warns when a database is larger than this; without it, only growth counts.
        warning_size: Option<ByteSize>;
        /// Warns when a database grew by more than this share within a day, percent …
        growth_percent: u32 = "20";
        /// … and by more than this.
        growth_minimum: ByteSize = "\"10GiB\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    bytes: i64,
}

/// Sizes by database, oldest first, one check an hour for a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory(Vec<(DateTime<Utc>, BTreeMap<String, i64>)>);

#[async_trait]
impl Monitor for DatabaseSize {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "7 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres database_size; check_pgactivity database_size (by delta)",
        queries: &[Query { what: "measure the databases", sql: pgbosun_postgres::DATABASE_SIZES }],
    };
    type Sample = Vec<Database>;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let total: i64 = sample.iter().map(|database| database.bytes).sum();
        let told = |bytes: i64| human::size(bytes.unsigned_abs());
        let mut verdict = Verdict::of(format!("{} of {}", human::count(sample.len(), "database"), told(total)));
        memory.0.retain(|(at, _)| baseline.now - *at < chrono::Duration::hours(25));
        for Database { name, bytes } in sample {
            verdict.measure(Metric::new("postgres_database_size_bytes", *bytes as f64).of("database", name));
            if let Some(limit) = self.warning_size {
                let object = format!("size of {name}");
                let limit = limit.as_u64();
                let severity = baseline.above(&object, *bytes as f64, limit as f64, f64::INFINITY);
                verdict.find(
                    Finding::new(
                        severity,
                        object,
                        format!("database {name} is {} (limit {})", told(*bytes), human::size(limit)),
                    )
                    .meaning("It takes more space, and longer to back up and restore, than was planned.")
                    .advice("See which tables are the largest: \\dt+ in psql, ordered by size."),
                );
            }
            let before = memory.0.iter().find_map(|(_, sizes)| sizes.get(name)).copied();
            if let Some(grown) = before.map(|before| bytes - before).filter(|grown| *grown > 0) {
                let object = format!("growth of {name}");
                let share = 100.0 * grown as f64 / before.unwrap_or(1).max(1) as f64;
                let enough = grown.unsigned_abs() > self.growth_minimum.as_u64();
                let severity = match enough {
                    true => baseline.above(&object, share, f64::from(self.growth_percent), f64::INFINITY),
                    false => Severity::Ok,
                };
                verdict.find(
                    Finding::new(
                        severity,
                        object,
                        format!("database {name} grew by {} ({share:.0} %) within a day", told(grown)),
                    )
                    .meaning("At this rate the disk fills up sooner than planned.")
                    .advice(
                        "Find out what grew: a forgotten load, dead rows that vacuum cannot remove, or a log table.",
                    ),
                );
            }
        }
        let sizes = sample.iter().map(|database| (database.name.clone(), database.bytes)).collect();
        if memory.0.last().is_none_or(|(at, _)| baseline.now - *at >= chrono::Duration::minutes(55)) {
            memory.0.push((baseline.now, sizes));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_within_a_day_and_size() {
        let monitor = DatabaseSize {
            warning_size: Some(ByteSize::gib(100)),
            growth_percent: 20,
            growth_minimum: ByteSize::gib(10),
        };
        let mut memory = Memory::default();
        let mut check = |gib: i64, hour: i64| {
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::hours(hour), ..Baseline::default() };
            let sample = vec![Database { name: "app".into(), bytes: gib << 30 }];
            let verdict = monitor.verdict(&sample, &mut memory, &baseline);
            verdict.findings.into_iter().map(|finding| finding.object).collect::<Vec<_>>()
        };
        assert!(check(40, 0).is_empty());
        assert!(check(49, 12).is_empty(), "less than the minimum");
        assert_eq!(check(51, 24), ["growth of app"]);
        assert!(check(51, 60).is_empty(), "the day is over");
        assert_eq!(check(101, 90), ["size of app"], "nobody knows how it was a day ago");
    }
}
