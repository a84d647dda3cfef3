//! How far standbys are behind, seen from where they read (check_postgres: hot_standby_delay, replication_lag;
//! check_pgactivity: streaming_delta).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::time::Duration;

options! {
    /// Alerts when a standby or other receiver is far behind, or is not connected.
    pub struct ReplicationLag {
        /// Warns when a receiver is this far behind in time …
        warning: Duration = "\"5m\"";
        /// … and critical when it is this far.
        critical: Duration = "\"30m\"";
        /// Warns when a receiver is this many bytes behind …
        warning_bytes: ByteSize = "\"1GiB\"";
        /// … and critical when it is this many.
        critical_bytes: ByteSize = "\"10GiB\"";
        /// Receivers that must be connected, by `application_name`: critical if one is missing.
        standbys: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct Receiver {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    client: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    state: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    sync_state: String,
    bytes: i64,
    seconds: f64,
}

#[async_trait]
impl Monitor for ReplicationLag {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity streaming_delta, check_postgres hot_standby_delay; pg_stat_replication",
        queries: &[Query { what: "read pg_stat_replication", sql: include_str!("lag.sql") }],
    };
    type Sample = Vec<Receiver>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let furthest = sample.iter().max_by_key(|receiver| receiver.bytes);
        let told = |bytes: i64| human::size(u64::try_from(bytes).unwrap_or_default());
        let mut verdict = Verdict::of(match furthest {
            None => "no receiver".into(),
            Some(one) => format!(
                "{}, the furthest {} behind ({})",
                human::count(sample.len(), "receiver"),
                told(one.bytes),
                one.name
            ),
        });
        for receiver in sample {
            let Receiver { name, client, state, sync_state, bytes, seconds } = receiver;
            verdict.measure(Metric::new("postgres_replication_lag_bytes", *bytes as f64).of("standby", name));
            verdict.measure(Metric::new("postgres_replication_lag_seconds", *seconds).of("standby", name));
            let (warning, critical) = (self.warning_bytes.as_u64() as f64, self.critical_bytes.as_u64() as f64);
            let by_bytes = baseline.above(name, *bytes as f64, warning, critical);
            let by_time = baseline.above(name, *seconds, self.warning.as_secs_f64(), self.critical.as_secs_f64());
            let behind = format!("{} and {}", told(*bytes), human::duration(Duration::from_secs_f64(seconds.max(0.0))));
            verdict.find(
                Finding::new(by_bytes.max(by_time), name, format!("standby {name} is {behind} behind"))
                    .meaning("Reads there see old data; a failover to it would lose what it does not have, or take long.")
                    .advice("See whether its network or disk is too slow, or a long query there holds up replay (max_standby_streaming_delay).")
                    .detail(Detail::new().fact("client", client).fact("state", format!("{state}, {sync_state}"))),
            );
        }
        for name in self.standbys.iter().filter(|name| sample.iter().all(|receiver| receiver.name != **name)) {
            verdict.find(
                Finding::new(Severity::Critical, name, format!("standby {name} is not connected"))
                    .meaning("It falls behind, and is not available when it is needed.")
                    .advice(
                        "Look at its log: it is not running, cannot connect, or asks for WAL that has been removed.",
                    ),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_bytes_by_time_and_by_absence() {
        let monitor = ReplicationLag {
            warning: Duration::from_secs(300),
            critical: Duration::from_secs(1800),
            warning_bytes: ByteSize::gib(1),
            critical_bytes: ByteSize::gib(10),
            standbys: vec!["a".into()],
        };
        let check = |name: &str, bytes, seconds| {
            let word = |text: &str| text.to_owned();
            let receiver = Receiver {
                name: word(name),
                client: word("x"),
                state: word("streaming"),
                sync_state: word("async"),
                bytes,
                seconds,
            };
            let findings = monitor.verdict(&vec![receiver], &mut (), &Baseline::default()).findings;
            findings.into_iter().map(|finding| (finding.object, finding.severity)).collect::<Vec<_>>()
        };
        assert!(check("a", 1 << 30, 300.0).is_empty());
        assert_eq!(check("a", 2 << 30, 0.0), [("a".to_owned(), Severity::Warning)]);
        assert_eq!(check("a", 0, 1801.0), [("a".to_owned(), Severity::Critical)]);
        assert_eq!(check("b", 0, 0.0), [("a".to_owned(), Severity::Critical)]);
    }
}
