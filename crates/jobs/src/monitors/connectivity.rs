//! Whether the cluster accepts a connection and answers (reference: database connectivity monitor, critical at once).

use super::Monitor;
use crate::{JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{
    finding::{Finding, Severity},
    human, options,
};
use sqlx::Connection;
use std::time::{Duration, Instant};

options! {
    /// Alerts when the cluster does not accept a connection and answer a query: critical, at the first look.
    pub struct Connectivity {
        /// Warns when connecting and answering takes longer than this.
        slow: Duration = "\"5s\"";
    }
}

/// One try.
pub struct Sample {
    target: String,
    /// Time from connecting to the answer and the server's version, or why there was none.
    answer: Result<(Duration, String), String>,
}

#[async_trait]
impl Monitor for Connectivity {
    type Sample = Sample;

    async fn sample(&self, context: &JobContext) -> Result<Sample, JobError> {
        let (_, server) = context.cluster()?;
        let begun = Instant::now();
        let answer = async {
            let mut connection = server.connect().await?;
            let version: String = sqlx::query_scalar(include_str!("connectivity.sql"))
                .fetch_one(&mut connection)
                .await
                .map_err(|source| pgbosun_postgres::Error::Query { what: "ask for its version".into(), source })?;
            let _ = connection.close().await;
            Ok((begun.elapsed(), version))
        };
        let limit = server.connect_timeout + server.statement_timeout;
        let answer = match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error: pgbosun_postgres::Error| human::chain(&error)),
            Err(_) => Err(format!("no answer within {}", human::duration(limit))),
        };
        Ok(Sample { target: server.conninfo.to_string(), answer })
    }

    fn verdict(&self, sample: &Sample) -> (String, Vec<Finding>) {
        let finding = |severity, summary: String, meaning: &str, advice: &str, detail: &str| Finding {
            object: "connection".into(),
            severity,
            summary,
            meaning: meaning.into(),
            advice: advice.into(),
            detail: detail.into(),
        };
        match &sample.answer {
            Ok((took, version)) if *took > self.slow => {
                let took = human::duration(*took);
                let finding = finding(
                    Severity::Warning,
                    format!("connecting takes {took} (limit {})", human::duration(self.slow)),
                    "Applications wait for every new connection.",
                    "Look at the server's load, at max_connections, and at name resolution.",
                    &format!("target: {}\nversion: {version}", sample.target),
                );
                (format!("PostgreSQL {version} answered after {took}"), vec![finding])
            }
            Ok((took, version)) => (format!("PostgreSQL {version} answered in {}", human::duration(*took)), Vec::new()),
            Err(reason) => {
                let finding = finding(
                    Severity::Critical,
                    "does not accept connections".into(),
                    "Applications cannot reach the database.",
                    "Look whether the server runs (systemctl status postgresql), then at the end of its log.",
                    &format!("target: {}\nerror: {reason}", sample.target),
                );
                (format!("no connection: {reason}"), vec![finding])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(answer: Result<(Duration, String), String>) -> Vec<Finding> {
        let monitor = Connectivity { slow: Duration::from_secs(5) };
        monitor.verdict(&Sample { target: "db:5432 as postgres".into(), answer }).1
    }

    #[test]
    fn silent_slow_and_quiet() {
        assert_eq!(verdict(Err("refused".into()))[0].severity, Severity::Critical);
        assert_eq!(verdict(Ok((Duration::from_secs(6), "15".into())))[0].severity, Severity::Warning);
        assert!(verdict(Ok((Duration::from_secs(5), "15".into()))).is_empty());
    }
}
