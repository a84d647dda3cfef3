//! When the server's certificates end (check_postgres has none; nagios check_ssl_cert: warning 30 days, critical 7).

use crate::{
    JobError,
    monitors::{
        Baseline, Monitor, MonitorFacts, MonitorSession, Query, Verdict,
        host::{Fault, about, blocking},
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, human, metric::Metric, options};
use std::{path::PathBuf, time::Duration};
use x509_parser::pem::Pem;

options! {
    /// Alerts before certificates expire: the one with which the server identifies itself, and those by which it verifies its
    /// clients. Quiet where the server does not use TLS.
    pub struct Certificate {
        /// Warns this long before a certificate expires.
        warning: Duration = "\"30d\"";
        /// Critical this long before.
        critical: Duration = "\"7d\"";
        /// More files with certificates (PEM) to watch.
        files: Vec<PathBuf> = "[]";
    }
}

/// One certificate.
pub struct Sample {
    file: PathBuf,
    subject: String,
    ends: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    file: String,
}

#[async_trait]
impl Monitor for Certificate {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "23 6 * * *",
        group: "security",
        checks: 1,
        needs: Needs::DataDirectory,
        source: "monitoring-plugins check_ssl_cert: 30 and 7 days",
        queries: &[Query { what: "ask for the certificate files", sql: include_str!("certificate.sql") }],
    };
    type Sample = Vec<Sample>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let data = session.data_directory()?;
        let rows: Vec<Row> = session.rows(&Self::FACTS.queries[0]).await?;
        let mut files = self.files.clone();
        files.extend(rows.into_iter().filter(|row| !row.name.is_empty()).map(|row| data.join(row.file)));
        let all = move || files.into_iter().map(read).collect::<Result<Vec<_>, _>>();
        Ok(blocking("read the certificates", all).await?.into_iter().flatten().collect())
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let first = sample.iter().min_by_key(|certificate| certificate.ends);
        let mut verdict = Verdict::of(first.map_or("no certificates".into(), |first| {
            format!("{}, the first expires on {}", human::count(sample.len(), "certificate"), first.ends.date_naive())
        }));
        for Sample { file, subject, ends } in sample {
            let left = *ends - baseline.now;
            let (object, days) = (file.display().to_string(), left.num_seconds() as f64);
            verdict.measure(
                Metric::new("postgres_certificate_end_time_seconds", ends.timestamp() as f64).of("file", &object),
            );
            let severity = baseline.below(&object, days, self.warning.as_secs_f64(), self.critical.as_secs_f64());
            let summary = match left < chrono::Duration::zero() {
                true => format!("the certificate in {object} expired on {}", ends.date_naive()),
                false => format!("the certificate in {object} expires in {}", human::span(left)),
            };
            verdict.find(
                Finding::new(severity, object, summary)
                    .meaning("From then on, clients that check it refuse to connect.")
                    .advice("Replace it with a new one and run select pg_reload_conf(): no restart is needed.")
                    .detail(Detail::new().fact("subject", subject).time("ends", *ends)),
            );
        }
        verdict
    }
}

/// The certificates of a PEM file.
fn read(file: PathBuf) -> Result<Vec<Sample>, Fault> {
    let failed = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let bytes = std::fs::read(&file).map_err(about(&file))?;
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|error| failed(&error))?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate = pem.parse_x509().map_err(|error| failed(&error))?;
        let ends = DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0).unwrap_or_default();
        found.push(Sample { file: file.clone(), subject: certificate.subject().to_string(), ends });
    }
    Ok(found)
}
