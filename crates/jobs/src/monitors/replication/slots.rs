//! Replication slots that hold WAL back or are lost (check_pgactivity: replication_slots).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

options! {
    /// Alerts when a replication slot is unused, holds back a lot of WAL, or has lost WAL it needs.
    pub struct Slots {
        /// Warns when a slot has been unused for this long.
        inactive: Duration = "\"1h\"";
        /// Warns when a slot holds back this much WAL.
        warning_retained: ByteSize = "\"8GiB\"";
        /// Critical when it holds back this much.
        critical_retained: ByteSize = "\"32GiB\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Slot {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    active: bool,
    /// On a standby, and kept in step with that of its primary.
    synced: bool,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    wal_status: String,
    retained: i64,
}

/// Since when nobody uses a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory(BTreeMap<String, DateTime<Utc>>);

#[async_trait]
impl Monitor for Slots {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity replication_slots; pg_replication_slots.wal_status",
        queries: &[Query { what: "read pg_replication_slots", sql: include_str!("slots.sql") }],
    };
    type Sample = Vec<Slot>;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let idle = sample.iter().filter(|slot| !slot.active && !slot.synced).count();
        let mut verdict = Verdict::of(format!("{}, {idle} unused", human::count(sample.len(), "slot")));
        memory.0.retain(|name, _| sample.iter().any(|slot| slot.name == *name && !slot.active));
        for slot in sample {
            let Slot { name, kind, active, synced, wal_status, retained } = slot;
            let held = human::size(u64::try_from(*retained).unwrap_or_default());
            verdict.measure(Metric::new("postgres_slot_retained_bytes", *retained as f64).of("slot", name));
            verdict.measure(Metric::new("postgres_slot_active", f64::from(u8::from(*active))).of("slot", name));
            let detail = Detail::new().fact("kind", kind).fact("retained", &held).fact("wal_status", wal_status);
            if matches!(wal_status.as_str(), "lost" | "unreserved") {
                let severity = if wal_status == "lost" { Severity::Critical } else { Severity::Warning };
                let what =
                    if wal_status == "lost" { "lost the WAL it needs" } else { "is about to lose the WAL it needs" };
                verdict.find(
                    Finding::new(severity, name, format!("slot {name} {what}"))
                        .meaning("Its standby or subscriber cannot continue and must be rebuilt.")
                        .advice("Drop it (pg_drop_replication_slot), rebuild the standby or subscriber that used it, and review max_slot_wal_keep_size.")
                        .detail(detail),
                );
                continue;
            }
            let since = (!active && !synced).then(|| *memory.0.entry(name.clone()).or_insert(baseline.now));
            let idle = since.map_or(0.0, |since| (baseline.now - since).as_seconds_f64());
            let (warning, critical) = (self.warning_retained.as_u64() as f64, self.critical_retained.as_u64() as f64);
            let by_size = baseline.above(name, *retained as f64, warning, critical);
            let by_time = baseline.above(name, idle, self.inactive.as_secs_f64(), f64::INFINITY);
            let summary = match since {
                Some(_) if by_time == Severity::Ok => {
                    format!("slot {name} holds back {held} of WAL, and nobody uses it")
                }
                Some(_) => {
                    let idle = human::duration(Duration::from_secs_f64(idle));
                    format!("slot {name} has been unused for {idle}, and holds back {held} of WAL")
                }
                None => format!("slot {name} holds back {held} of WAL"),
            };
            verdict.find(
                Finding::new(by_size.max(by_time), name, summary)
                    .meaning(
                        "The WAL stays until it is read, and fills the disk; a slot with xmin holds vacuum back too.",
                    )
                    .advice("Find out why its consumer does not read; drop the slot if nobody needs it any more.")
                    .detail(detail),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_large_and_lost() {
        let monitor = Slots {
            inactive: Duration::from_secs(3600),
            warning_retained: ByteSize::gib(8),
            critical_retained: ByteSize::gib(32),
        };
        let mut memory = Memory::default();
        let mut check = |active, status: &str, gib: i64, minute: i64| {
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            let slot = Slot {
                name: "s".into(),
                kind: "physical".into(),
                active,
                synced: false,
                wal_status: status.into(),
                retained: gib << 30,
            };
            monitor.verdict(&vec![slot], &mut memory, &baseline).findings.first().map(|finding| finding.severity)
        };
        assert_eq!(check(false, "reserved", 0, 0), None);
        assert_eq!(check(false, "reserved", 0, 61), Some(Severity::Warning));
        assert_eq!(check(true, "reserved", 0, 65), None);
        assert_eq!(check(false, "reserved", 0, 70), None, "it was used meanwhile");
        assert_eq!(check(true, "extended", 40, 75), Some(Severity::Critical));
        assert_eq!(check(true, "unreserved", 0, 80), Some(Severity::Warning));
        assert_eq!(check(false, "lost", 0, 85), Some(Severity::Critical));
    }
}
