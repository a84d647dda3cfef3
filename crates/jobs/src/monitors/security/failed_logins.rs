//! Logins that failed, from the server's log (reference 000: any since the last check, with user, address, database and time;
//! across rotation, never counted twice).

mod follow;
mod formats;

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use follow::Positions;
use formats::{Failure, Format, NOWHERE};
use pgbosun_core::{
    config::{Config, Needs},
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Reads a log as this monitor does.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_log(destination: &str, prefix: &str, data: &[u8]) {
    if let Ok(format) = Format::of(destination, prefix, "C") {
        assert!(format.read(data).whole <= data.len());
    }
}

options! {
    /// Alerts on failed logins, from the server's log in any of its formats (csvlog, jsonlog, stderr with any
    /// `log_line_prefix`). Each failure is reported once, whatever happens to the files.
    pub struct FailedLogins {
        /// Warns at this many failures from one address within the window.
        warning: u32 = "1";
        /// Critical at this many from one address.
        critical: u32 = "20";
        /// Critical at this many from all addresses together.
        burst: u32 = "100";
        /// How far back failures are counted, and how long they are reported.
        window: Duration = "\"1h\"";
        /// Addresses that may fail, such as those of a monitoring system that only probes the port.
        ignore_addresses: Vec<String> = "[]";
        /// Which files of the log directory belong to this cluster, with `*` for anything; by default what the server's
        /// `log_filename` says, or the name that Debian gives them.
        files: Option<String>;
    }
}

/// Failures kept for the window at most; more are only counted.
const KEPT: usize = 500;
/// Lines shown of one address.
const SHOWN: usize = 20;

/// What `check` says of how a server logs, where a job looks for failed logins of the cluster.
pub fn log_advice(config: &Config, cluster: &str, destination: &str, prefix: &str) -> Option<&'static str> {
    config.options_of::<FailedLogins>(cluster).next()?;
    Format::advice(destination, prefix)
}

#[derive(sqlx::FromRow)]
struct Settings {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    prefix: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    language: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    destination: String,
    collector: bool,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    filename: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
}

/// What is new in the logs, and up to where they were read.
pub struct Sample {
    failures: Vec<Failure>,
    torn: u64,
    positions: Positions,
}

/// Up to where the logs were read, and what failed lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    positions: Option<Positions>,
    recent: Vec<(DateTime<Utc>, Failure)>,
    total: u64,
}

#[async_trait]
impl Monitor for FailedLogins {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "security",
        checks: 1,
        needs: Needs::LogDirectory,
        source: "reference 000, failed logins monitor: any failure",
        queries: &[Query { what: "ask how the server logs", sql: include_str!("failed_logins.sql") }],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let directory = session.log_directory()?;
        let settings: Settings = session.row(&Self::FACTS.queries[0]).await?;
        session.release().await;
        let format =
            Format::of(&settings.destination, &settings.prefix, &settings.language).map_err(JobError::lasting)?;
        let pattern = self.files.clone().unwrap_or_else(|| settings.pattern(&directory));
        let known: Option<Memory> = session.context.state.clone().and_then(|state| serde_json::from_value(state).ok());
        let known = known.and_then(|memory| memory.positions);
        let read = tokio::task::spawn_blocking(move || {
            let mut failures = Vec::new();
            let mut torn = 0;
            let fits = |name: &str| format.reads(name);
            let positions = follow::read_on(&directory, &pattern, &fits, known.as_ref(), &mut |bytes| {
                let read = format.read(bytes);
                failures.extend(read.failures);
                torn += read.torn;
                read.whole
            })?;
            if positions.is_empty() {
                let (place, advice) =
                    (directory.display(), "check log_directory of the server, log-directory, and files");
                return Err(std::io::Error::other(format!("no file in {place} matches {pattern}: {advice}")));
            }
            Ok::<_, std::io::Error>(Sample { failures, torn, positions })
        });
        let failed = || JobError::lasting("cannot read the log");
        read.await.map_err(|error| failed().because(error))?.map_err(|error| failed().because(error))
    }

    fn verdict(&self, sample: &Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let window = chrono::Duration::from_std(self.window).unwrap_or_default();
        let counted: Vec<_> =
            sample.failures.iter().filter(|failure| !self.ignore_addresses.contains(&failure.address)).collect();
        memory.positions = Some(sample.positions.clone());
        memory.total += counted.len() as u64;
        memory.recent.extend(counted.iter().map(|failure| (baseline.now, (*failure).clone())));
        memory.recent.retain(|(at, _)| baseline.now - *at < window);
        let surplus = memory.recent.len().saturating_sub(KEPT);
        memory.recent.drain(..surplus);

        let (recent, told) = (memory.recent.len(), human::duration(self.window));
        let torn = match sample.torn {
            0 => String::new(),
            torn => format!("; {} of the log could not be read: torn", human::count(torn, "record")),
        };
        let counted = human::count(counted.len(), "failed login");
        let mut verdict = Verdict::of(format!("{counted} since the last check, {recent} within {told}{torn}"));
        verdict.measure(Metric::new("postgres_failed_logins_total", memory.total as f64));
        let mut addresses: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
        for (_, failure) in &memory.recent {
            addresses.entry(&failure.address).or_default().push(failure);
        }
        for (address, failures) in addresses {
            let severity = match failures.len() {
                count if count >= self.critical as usize => Severity::Critical,
                count if count >= self.warning as usize => Severity::Warning,
                _ => continue,
            };
            let mut users: Vec<_> = failures.iter().map(|failure| failure.user.as_str()).collect();
            users.sort_unstable();
            users.dedup();
            let who = if users.len() > 3 { format!("{} users", users.len()) } else { users.join(", ") };
            let lines = failures.iter().rev().take(SHOWN).map(|failure| failure.to_string());
            verdict.find(
                Finding::new(
                    severity,
                    address,
                    format!("{} from {address} as {who}", human::count(failures.len(), "failed login")),
                )
                .meaning("Somebody has a wrong password, or is trying many.")
                .advice(if address == NOWHERE {
                    "Have the server log where logins come from: add %h to log_line_prefix, or csvlog to log_destination."
                } else {
                    "If it is nobody you know, block it: pg_hba.conf, firewall. Otherwise fix its password."
                })
                .detail(lines.collect::<Vec<_>>().join("\n")),
            );
        }
        if recent >= self.burst as usize {
            verdict.find(
                Finding::new(Severity::Critical, "burst", format!("{recent} failed logins within {told}"))
                    .meaning("Somebody is trying passwords from many places, or an application has a wrong one.")
                    .advice("See the addresses in the other alerts and in the log, and block them."),
            );
        }
        verdict
    }
}

impl Settings {
    /// The names of this cluster's files: a directory may hold those of others.
    fn pattern(&self, directory: &Path) -> String {
        if self.collector {
            // `postgresql-%Y-%m-%d_%H%M%S.log`, of which csvlog and jsonlog change the end.
            let mut pattern = String::new();
            let mut characters = self.filename.chars();
            while let Some(character) = characters.next() {
                if character == '%' {
                    let _ = characters.next();
                    pattern.push('*');
                } else {
                    pattern.push(character);
                }
            }
            let stem = pattern.strip_suffix(".log").unwrap_or(&pattern).to_owned();
            return format!("{stem}*");
        }
        // Debian's tools name the cluster "15/main", and its log after that.
        let debian = format!("postgresql-{}.log", self.name.replace('/', "-"));
        let there: PathBuf = directory.join(&debian);
        if there.exists() { format!("{debian}*") } else { "*".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alert_an_address_for_the_window() {
        let monitor = FailedLogins {
            warning: 1,
            critical: 3,
            burst: 5,
            window: Duration::from_secs(3600),
            ignore_addresses: vec!["10.0.0.9".into()],
            files: None,
        };
        let mut memory = Memory::default();
        let mut check = |addresses: &[&str], minute: i64| {
            let failure = |address: &&str| Failure { address: (*address).to_owned(), ..Failure::default() };
            let failures = addresses.iter().map(failure).collect();
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            let sample = Sample { failures, torn: 0, positions: Positions::default() };
            let findings = monitor.verdict(&sample, &mut memory, &baseline).findings;
            findings.into_iter().map(|finding| format!("{} {}", finding.object, finding.severity)).collect::<Vec<_>>()
        };
        assert!(check(&["10.0.0.9"], 0).is_empty());
        assert_eq!(check(&["10.0.0.1"], 5), ["10.0.0.1 warning"]);
        assert_eq!(check(&["10.0.0.1", "10.0.0.1"], 10), ["10.0.0.1 critical"]);
        assert_eq!(check(&["10.0.0.2", "10.0.0.3"], 15).len(), 4, "with the burst");
        assert_eq!(check(&[], 66), ["10.0.0.1 warning", "10.0.0.2 warning", "10.0.0.3 warning"]);
        assert!(check(&[], 80).is_empty());
    }
}
