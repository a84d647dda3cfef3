//! Whether the server's version is old (check_postgres: same, new_version): a newer one is installed beside it, is to be had
//! from the packages this machine knows of, is asked for by the configuration, or its major version gets no more corrections.
//! Nothing is asked of the network.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict, host::blocking},
};
use async_trait::async_trait;
use chrono::{Duration, NaiveDate};
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    metric::Metric,
    options,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

options! {
    /// Alerts when the server needs a restart after its programs were updated, when a newer minor version is available (as
    /// `apt-cache policy` knows since the last `apt update`) or required by the configuration, and before its major version
    /// stops getting fixes.
    pub struct Version {
        /// The oldest acceptable minor version of each major version, such as `["16.11", "17.7"]`: for machines without apt,
        /// and for servers on other machines.
        minimum: Vec<String> = "[]";
        /// Report minor versions that apt knows of and that are not installed.
        packages: bool = "true";
        /// How long before the end of its support a major version is reported.
        end_of_life_notice: std::time::Duration = "\"90d\"";
    }
}

/// The last day of support of each major version (postgresql.org/support/versioning).
const END_OF_LIFE: [(u32, i32, u32, u32); 5] =
    [(14, 2026, 11, 12), (15, 2027, 11, 11), (16, 2028, 11, 9), (17, 2029, 11, 8), (18, 2030, 11, 14)];

pub struct Sample {
    /// As in `server_version_num`.
    number: u32,
    version: String,
    /// What the server's own program says of itself now, where it is on this machine.
    installed: Option<u32>,
    /// What the packages that this machine knows of would bring.
    available: Option<u32>,
}

#[derive(sqlx::FromRow)]
struct Row {
    number: i32,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    version: String,
}

#[async_trait]
impl Monitor for Version {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "17 6 * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres new_version_pg; postgresql.org/support/versioning",
        queries: &[Query { what: "ask for its version", sql: include_str!("version.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let row: Row = session.row(&Self::FACTS.queries[0]).await?;
        session.release().await;
        let (name, _) = session.context.cluster()?;
        let data = session.context.config.clusters.get(name).and_then(|cluster| cluster.data_directory.clone());
        let program = match data {
            Some(data) => blocking("find out which program is running", move || Ok(program(&data))).await?,
            None => None,
        };
        let number = u32::try_from(row.number).unwrap_or_default();
        let (installed, available) = match program {
            Some(program) => {
                let available = if self.packages { available(&program, number / 10_000).await } else { None };
                (installed(&program).await, available)
            }
            None => (None, None),
        };
        Ok(Sample { number, version: row.version, installed, available })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let mut verdict = Verdict::of(format!("PostgreSQL {}", sample.version));
        verdict.measure(Metric::new("postgres_version_number", f64::from(sample.number)));
        let (major, minor) = (sample.number / 10_000, sample.number % 10_000);
        let wanted = self.minimum.iter().filter_map(|text| number(text)).find(|wanted| wanted / 10_000 == major);
        let wanted = wanted.filter(|wanted| *wanted > sample.number).map(|wanted| (wanted, "required"));
        let newer = sample.available.filter(|newer| *newer > sample.installed.unwrap_or(sample.number));
        if let Some((wanted, why)) = wanted.into_iter().chain(newer.map(|newer| (newer, "available"))).max() {
            verdict.find(
                Finding::new(
                    Severity::Warning,
                    "minor version",
                    format!("runs {major}.{minor}, and {major}.{} is {why}", wanted % 10_000),
                )
                .meaning("It lacks the fixes of the newer version.")
                .advice("Update the packages and restart the server: a minor version needs no dump."),
            );
        }
        if let Some(installed) = sample.installed.filter(|installed| *installed != sample.number) {
            verdict.find(
                Finding::new(
                    Severity::Warning,
                    "restart after update",
                    format!("runs {major}.{minor}, and {major}.{} is installed", installed % 10_000),
                )
                .meaning("The update takes effect when the server restarts; until then its fixes are missing.")
                .advice("Restart the server at a quiet time."),
            );
        }
        let end = END_OF_LIFE.iter().find(|(known, ..)| *known == major);
        let end = end.and_then(|(_, year, month, day)| NaiveDate::from_ymd_opt(*year, *month, *day));
        let notice = Duration::from_std(self.end_of_life_notice).unwrap_or_default();
        let today = baseline.now.date_naive();
        if let Some(end) = end.filter(|end| *end - today < notice) {
            let summary = match end < today {
                true => format!("PostgreSQL {major} has had no fixes since {end}"),
                false => format!("PostgreSQL {major} gets no more fixes after {end}"),
            };
            verdict.find(
                Finding::new(Severity::Warning, "end of life", summary)
                    .meaning("Bugs found after that day, security holes included, are not fixed.")
                    .advice("Plan the upgrade: pg_upgrade, or logical replication for a short break."),
            );
        }
        verdict
    }
}

/// `17.7` as in `server_version_num`.
fn number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    Some(major.parse::<u32>().ok()? * 10_000 + minor.parse::<u32>().ok()?)
}

/// The program of the server that runs in a data directory: the first word of `postmaster.opts`.
fn program(data: &Path) -> Option<PathBuf> {
    let options = std::fs::read_to_string(data.join("postmaster.opts")).ok()?;
    Some(PathBuf::from(options.split_whitespace().next()?))
}

/// What the program on the disk says its version is.
async fn installed(program: &Path) -> Option<u32> {
    // postgres (PostgreSQL) 17.7 (Debian 17.7-1.pgdg12+1)
    number(said(program, &["--version"]).await?.split_whitespace().nth(2)?)
}

/// The minor version that apt would install, where the program is where Debian's packages put it.
async fn available(program: &Path, major: u32) -> Option<u32> {
    program.starts_with("/usr/lib/postgresql").then_some(())?;
    candidate(&said(Path::new("/usr/bin/apt-cache"), &["policy", &format!("postgresql-{major}")]).await?)
}

/// `  Candidate: 17.7-1.pgdg12+1` as in `server_version_num`; what is not released yet (`18~beta1`) is none.
fn candidate(policy: &str) -> Option<u32> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    number(version.trim().split(['-', '+', '~']).next()?)
}

/// What a program says of itself, if it does so soon; in English.
async fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
    let mut command = tokio::process::Command::new(program);
    let asked = command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true).output();
    let said = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&said.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_than_installed_than_asked_for_and_at_its_end() {
        let monitor = Version {
            minimum: vec!["17.7".into()],
            packages: true,
            end_of_life_notice: std::time::Duration::from_secs(90 * 86_400),
        };
        let check = |number, installed, day: &str| {
            let baseline = Baseline { now: format!("{day}T00:00:00Z").parse().unwrap(), ..Baseline::default() };
            let sample = Sample { number, version: "x".into(), installed, available: None };
            let verdict = monitor.verdict(&sample, &mut (), &baseline);
            verdict.findings.into_iter().map(|finding| finding.object).collect::<Vec<_>>()
        };
        assert!(check(170_007, Some(170_007), "2026-01-01").is_empty());
        assert_eq!(check(170_006, Some(170_007), "2026-01-01"), ["minor version", "restart after update"]);
        assert_eq!(check(150_001, None, "2027-09-01"), ["end of life"]);
        assert!(check(150_001, None, "2027-08-01").is_empty());
        assert_eq!(check(150_001, None, "2028-08-01"), ["end of life"]);
    }

    #[test]
    fn newer_packages_are_told_until_they_are_installed() {
        let monitor = Version { minimum: Vec::new(), packages: true, end_of_life_notice: std::time::Duration::ZERO };
        let check = |installed, available| {
            let sample = Sample { number: 170_006, version: "17.6".into(), installed, available };
            let baseline = Baseline { now: "2026-01-01T00:00:00Z".parse().unwrap(), ..Baseline::default() };
            let found = monitor.verdict(&sample, &mut (), &baseline).findings;
            found.into_iter().map(|finding| finding.summary).collect::<Vec<_>>()
        };
        let policy = "postgresql-17:\n  Installed: 17.6-1\n  Candidate: 17.7-1.pgdg12+1\n  Version table:\n";
        assert_eq!(candidate(policy), Some(170_007));
        assert_eq!(
            [candidate("  Candidate: 18~beta1-1\n"), candidate("  Candidate: (none)\n"), candidate("")],
            [None; 3]
        );
        assert_eq!(check(Some(170_006), candidate(policy)), ["runs 17.6, and 17.7 is available"]);
        assert_eq!(check(Some(170_006), Some(170_006)), [""; 0]);
        assert_eq!(check(Some(170_007), Some(170_007)), ["runs 17.6, and 17.7 is installed"]);
    }
}
