//! How a standby does, seen from itself (check_pgactivity: is_replay_paused; check_postgres: hot_standby_delay).
//!
//! How old the last transaction is that was replayed says little by itself: after an hour without any, one that is long makes
//! it an hour. So what was received and not replayed is remembered from check to check, and waits since then at most.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
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
use std::time::Duration;

options! {
    /// Alerts on a standby when replay is paused or far behind, or when nothing is received. Quiet on a primary. A standby that
    /// gets its WAL from an archive alone cannot know how far behind it is: there only the pause is reported.
    pub struct Standby {
        /// Warns when received WAL has waited this long to be replayed.
        warning: Duration = "\"5m\"";
        /// Critical after this long.
        critical: Duration = "\"30m\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    standby: bool,
    paused: bool,
    streaming: bool,
    expected: bool,
    /// Seconds since the last transaction that was replayed, where something waits.
    behind: f64,
    /// Positions in the WAL, bytes; none where nothing was received, or replayed.
    received: Option<f64>,
    position: Option<f64>,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    replayed: String,
}

/// What was received and had to wait to be replayed: up to where, bytes, and when that was seen; oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory(Vec<(f64, DateTime<Utc>)>);

/// Marks kept at most.
const MARKS: usize = 100;

impl Memory {
    /// For how long the oldest that waits has waited at least, seconds.
    fn waits(&mut self, sample: &Sample, now: DateTime<Utc>) -> f64 {
        let Some(position) = sample.position else { return 0.0 };
        self.0.retain(|(waiting, _)| *waiting > position);
        let beyond = self.0.last().map_or(position, |(waiting, _)| *waiting);
        self.0.extend(sample.received.filter(|received| *received > beyond).map(|received| (received, now)));
        if self.0.len() > MARKS {
            self.0.remove(1);
        }
        let waited = self.0.first().map_or(0.0, |(_, since)| (now - *since).as_seconds_f64());
        waited.clamp(0.0, sample.behind.max(0.0))
    }
}

#[async_trait]
impl Monitor for Standby {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity is_replay_paused; pg_stat_wal_receiver",
        queries: &[Query { what: "ask for the state of the standby", sql: include_str!("standby.sql") }],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        session.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        if !sample.standby {
            *memory = Memory::default();
            return Verdict::of("is a primary");
        }
        let delay = memory.waits(sample, baseline.now);
        let behind = human::duration(Duration::from_secs_f64(delay));
        let mut verdict = Verdict::of(format!("replayed to {}, {behind} behind", sample.replayed));
        verdict.measure(Metric::new("postgres_replay_lag_seconds", delay));
        verdict.measure(Metric::new("postgres_wal_receiver_up", f64::from(u8::from(sample.streaming))));
        if sample.paused {
            verdict.find(
                Finding::new(Severity::Warning, "replay", "replay is paused")
                    .meaning("The standby shows old data, and collects WAL until its disk is full.")
                    .advice("Run select pg_wal_replay_resume() once whoever paused it is done."),
            );
        }
        if sample.expected && !sample.streaming {
            verdict.find(
                Finding::new(Severity::Critical, "receiver", "the standby receives nothing from its primary")
                    .meaning("It falls behind; what the primary loses now is lost.")
                    .advice("Look at its log: network, password, a slot that is gone, or WAL that was removed (restore_command helps).")
                    .detail(Detail::new().fact("replayed", &sample.replayed)),
            );
        }
        let severity = baseline.above("delay", delay, self.warning.as_secs_f64(), self.critical.as_secs_f64());
        verdict.find(
            Finding::new(severity, "delay", format!("replay is {behind} behind"))
                .meaning("Reads here see old data, and a failover to it takes longer.")
                .advice("A long query here may hold up replay (max_standby_streaming_delay), or the disk is too slow."),
        );
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    const MONITOR: Standby = Standby { warning: Duration::from_secs(300), critical: Duration::from_secs(1800) };

    fn check(memory: &mut Memory, minute: i64, sample: &Sample) -> Vec<String> {
        let baseline = Baseline { now: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute), ..Baseline::default() };
        let findings = MONITOR.verdict(sample, memory, &baseline).findings;
        findings.into_iter().map(|finding| finding.object).collect()
    }

    fn sample(received: f64, position: f64, behind: f64) -> Sample {
        let (received, position) = (Some(received), Some(position));
        let (standby, paused, streaming, expected) = (true, false, true, true);
        Sample { standby, paused, streaming, expected, behind, received, position, replayed: "0/1".into() }
    }

    #[test]
    fn paused_alone_and_nothing_received() {
        let stopped = Sample { paused: true, streaming: false, ..sample(9.0, 9.0, 0.0) };
        assert_eq!(check(&mut Memory::default(), 0, &stopped), ["replay", "receiver"]);
        assert!(check(&mut Memory::default(), 0, &Sample { standby: false, ..stopped }).is_empty());
        assert!(check(&mut Memory::default(), 0, &sample(9.0, 9.0, 10.0)).is_empty());
    }

    #[test]
    fn what_waits_is_late_and_an_old_transaction_is_not() {
        let mut memory = Memory::default();
        assert!(
            check(&mut memory, 0, &sample(10.0, 5.0, 3600.0)).is_empty(),
            "it came a moment ago, for all that is known"
        );
        assert!(check(&mut memory, 5, &sample(30.0, 20.0, 3900.0)).is_empty(), "what waited was replayed");
        assert!(check(&mut memory, 6, &sample(40.0, 25.0, 3960.0)).is_empty());
        assert_eq!(check(&mut memory, 11, &sample(50.0, 29.0, 4260.0)), ["delay"], "the same waits since minute 5");
        assert_eq!(check(&mut memory, 13, &sample(60.0, 35.0, 4380.0)), ["delay"], "and now what waits since minute 6");
        assert!(check(&mut memory, 13, &sample(60.0, 45.0, 4380.0)).is_empty());
        assert!(check(&mut memory, 30, &sample(60.0, 45.0, 2.0)).is_empty(), "a transaction of 2 s ago was replayed");
        assert!(check(&mut memory, 31, &sample(60.0, 60.0, 0.0)).is_empty() && memory == Memory::default());
    }
}
