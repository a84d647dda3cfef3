//! Whether the cluster accepts a connection and answers (reference: database connectivity monitor, critical at once).

use super::log_tail::last_lines;
use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Reach, Severity},
    human,
    metric::Metric,
    options,
};
use std::{path::PathBuf, sync::Mutex, time::Duration};

options! {
    /// Alerts when the cluster does not accept a connection and answer a query: critical, at the first check.
    pub struct Connectivity {
        /// Warns when connecting and getting an answer takes longer than this.
        slow: Duration = "\"5s\"";
    }
}

/// How long the end of a log may take: it may lie on what hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// One try.
pub struct Sample {
    target: String,
    /// Time from connecting to the answer and the server's version, or why there was none.
    answer: Result<(Duration, String), String>,
    /// The end of its log where there was none, and where that log is.
    log: Option<(PathBuf, String)>,
}

#[async_trait]
impl Monitor for Connectivity {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "* * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "reference 000, database connectivity monitor: critical when no connection is accepted",
        queries: &[Query { what: "ask for its version", sql: include_str!("connectivity.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let (_, server) = session.context.cluster()?;
        let target = server.conninfo.to_string();
        let answer = session.reconnect(&Self::FACTS.queries[0]).await.map_err(|error| human::chain(&error));
        let mut log = None;
        if answer.is_err()
            && let Ok(directory) = session.log_directory()
        {
            let data = session.data_directory().ok();
            // One at a time: on a share that hangs each holds a thread.
            static READING: Mutex<()> = Mutex::new(());
            let read = tokio::task::spawn_blocking(move || {
                let _one = READING.try_lock().ok()?;
                last_lines(&directory, data.as_deref())
            });
            log = tokio::time::timeout(PATIENCE, read).await.ok().and_then(Result::ok).flatten();
        }
        Ok(Sample { target, answer, log })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let up = |value| Metric::new("postgres_up", value);
        match &sample.answer {
            Ok((took, version)) => {
                let told = human::duration(*took);
                let slow = self.slow.as_secs_f64();
                let severity = baseline.above("connection", took.as_secs_f64(), slow, f64::INFINITY);
                let mut verdict = Verdict::of(format!("PostgreSQL {version} answered in {told}"));
                verdict.measure(up(1.0));
                verdict.measure(Metric::new("postgres_connect_seconds", took.as_secs_f64()));
                let summary = format!("connecting takes {told} (limit {})", human::duration(self.slow));
                verdict.find(
                    Finding::new(severity, "connection", summary)
                        .meaning("Applications wait for every new connection.")
                        .advice("Look at the server's load, at max_connections, and at name resolution.")
                        .detail(Detail::new().fact("target", &sample.target).fact("version", version)),
                );
                verdict
            }
            Err(reason) => {
                let detail = Detail::new().fact("target", &sample.target).fact("error", reason);
                let mut verdict = Verdict::of(format!("no connection: {reason}"));
                verdict.measure(up(0.0));
                verdict.find(
                    Finding::new(Severity::Critical, "connection", "does not accept connections")
                        .reaching(Reach::Cluster)
                        .meaning("Applications cannot reach the database.")
                        .advice(
                            "Check whether the server is running (systemctl status postgresql), then look at the end of its log.",
                        )
                        .detail(match &sample.log {
                            Some((path, lines)) => detail.fact("its log", path.display()).text(lines),
                            None => detail,
                        }),
                );
                verdict
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(answer: Result<(Duration, String), String>) -> Vec<Finding> {
        let monitor = Connectivity { slow: Duration::from_secs(5) };
        let sample = Sample { target: "db:5432 as postgres".into(), answer, log: None };
        monitor.verdict(&sample, &mut (), &Baseline::default()).findings
    }

    #[test]
    fn silent_slow_and_quiet() {
        assert_eq!(verdict(Err("refused".into()))[0].severity, Severity::Critical);
        assert_eq!(verdict(Ok((Duration::from_secs(6), "15".into())))[0].severity, Severity::Warning);
        assert!(verdict(Ok((Duration::from_secs(5), "15".into()))).is_empty());
    }
}
