//! Sessions that wait for others, with the chain of who blocks whom (check_pgactivity: longest wait by pg_blocking_pids).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, human, metric::Metric, options};
use std::{collections::BTreeSet, time::Duration};

options! {
    /// Alerts when sessions wait a long time for a lock, and shows who blocks whom.
    pub struct Locks {
        /// Warns when a session has waited this long.
        warning: Duration = "\"1m\"";
        /// Critical after this long.
        critical: Duration = "\"5m\"";
    }
}

/// What `pg_blocking_pids` says for prepared transactions, which no process holds.
const PREPARED: i32 = 0;

#[derive(sqlx::FromRow)]
pub struct Session {
    pid: i32,
    blocked_by: Vec<i32>,
    seconds: f64,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    who: String,
}

#[async_trait]
impl Monitor for Locks {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "pg_blocking_pids(), pg_locks.waitstart; check_postgres locks",
        queries: &[Query { what: "find out who waits for whom", sql: include_str!("locks.sql") }],
    };
    type Sample = Vec<Session>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let waiting: Vec<_> = sample.iter().filter(|session| !session.blocked_by.is_empty()).collect();
        let longest = waiting.iter().map(|session| session.seconds).fold(0.0, f64::max);
        let told = human::duration(Duration::from_secs_f64(longest));
        let mut verdict = Verdict::of(match waiting.len() {
            0 => "nobody waits for a lock".into(),
            count => format!("{} waiting for locks, the longest for {told}", human::count(count, "session")),
        });
        verdict.measure(Metric::new("postgres_sessions_waiting_for_locks", waiting.len() as f64));
        verdict.measure(Metric::new("postgres_longest_lock_wait_seconds", longest));
        let severity = baseline.above("locks", longest, self.warning.as_secs_f64(), self.critical.as_secs_f64());
        let waiters = human::count(waiting.len(), "session");
        let summary = format!("{waiters} waiting for locks, the longest for {told}");
        let advice = match sample.iter().any(|session| session.pid == PREPARED) {
            true => {
                "Ask the transaction manager of the prepared transaction below, then COMMIT PREPARED or ROLLBACK PREPARED, in its database. Ending the sessions that wait for it frees nothing."
            }
            false => {
                "End the first session of the chain below, if it may be ended: pg_cancel_backend(process), or pg_terminate_backend(process) if it is idle."
            }
        };
        verdict.find(
            Finding::new(severity, "locks", summary)
                .meaning("Their work is stalled, and whatever comes after them queues up behind them.")
                .advice(advice)
                .detail(chains(sample)),
        );
        verdict
    }
}

/// Who blocks whom, each line under the one it waits for.
fn chains(sessions: &[Session]) -> String {
    let roots = sessions.iter().filter(|session| session.blocked_by.is_empty());
    let (mut lines, mut told) = (Vec::new(), BTreeSet::new());
    for root in roots {
        branch(sessions, root, 0, &mut told, &mut lines);
    }
    // A ring of them has no first; the server ends it by itself within deadlock_timeout.
    for session in sessions {
        branch(sessions, session, 0, &mut told, &mut lines);
    }
    lines.join("\n")
}

fn branch(sessions: &[Session], session: &Session, depth: usize, told: &mut BTreeSet<i32>, lines: &mut Vec<String>) {
    if !told.insert(session.pid) {
        return;
    }
    let waits = match session.blocked_by.is_empty() {
        true => String::new(),
        false => format!(", waits for {}", human::duration(Duration::from_secs_f64(session.seconds.max(0.0)))),
    };
    lines.push(format!("{}{}{waits}", "    ".repeat(depth), session.who));
    for blocked in sessions.iter().filter(|other| other.blocked_by.contains(&session.pid)) {
        branch(sessions, blocked, depth + 1, told, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn the_chain_begins_with_who_waits_for_nobody() {
        let session = |pid, blocked_by: &[i32], seconds| Session {
            pid,
            blocked_by: blocked_by.to_vec(),
            seconds,
            who: format!("process {pid}"),
        };
        let sessions =
            vec![session(1, &[2], 10.0), session(2, &[3], 400.0), session(3, &[], 0.0), session(4, &[3], 5.0)];
        let monitor = Locks { warning: Duration::from_secs(60), critical: Duration::from_secs(300) };
        let verdict = monitor.verdict(&sessions, &mut (), &Baseline::default());
        assert_eq!(verdict.findings[0].severity, Severity::Critical);
        let expected = "process 3\n    process 2, waits for 6 min 40 s\n        process 1, waits for 10 s\n    process 4, waits for 5.0 s";
        assert_eq!(verdict.findings[0].detail.to_string(), expected);
        assert!(monitor.verdict(&vec![], &mut (), &Baseline::default()).findings.is_empty());
        let mut prepared = session(0, &[], 0.0);
        prepared.who = "prepared transaction x".into();
        let finding =
            monitor.verdict(&vec![prepared, session(1, &[0], 70.0)], &mut (), &Baseline::default()).findings.remove(0);
        assert!(finding.advice.contains("ROLLBACK PREPARED"), "{}", finding.advice);
        assert_eq!(finding.detail.to_string(), "prepared transaction x\n    process 1, waits for 1 min 10 s");
    }
}
