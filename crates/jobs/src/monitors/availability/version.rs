//! Whether the server's version is old (check_postgres: same, new_version): a newer one is installed beside it, is asked for
//! by the configuration, or its major version gets no more corrections. Nothing is asked of the network.

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Verdict, View, host::blocking},
};
use async_trait::async_trait;
use chrono::{Duration, NaiveDate};
use pgbosun_core::{
    config::Needs,
    figure::Figure,
    finding::{Finding, Severity},
    options,
};
use std::path::{Path, PathBuf};

options! {
    /// Alerts when the server waits for a restart after its programs were updated, when it is older than the configuration
    /// asks for, and before its major version gets no more corrections.
    pub struct Version {
        /// The oldest minor version of each major version that will do, such as `["16.11", "17.7"]`.
        minimum: Vec<String> = "[]";
        /// How long before the end of its support a major version is told.
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
}

#[derive(sqlx::FromRow)]
struct Row {
    number: i32,
    version: String,
}

#[async_trait]
impl Monitor for Version {
    const FACTS: Facts = Facts {
        every: "17 6 * * *",
        group: "database",
        looks: 1,
        needs: Needs::Cluster,
        source: "check_postgres new_version_pg; postgresql.org/support/versioning",
        queries: &[Query { what: "ask for its version", sql: include_str!("version.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, look: &mut Look<'_>) -> Result<Sample, JobError> {
        let row: Row = look.row(&Self::FACTS.queries[0]).await?;
        let (name, _) = look.context.cluster()?;
        let data = look.context.config.clusters.get(name).and_then(|cluster| cluster.data_directory.clone());
        let program = match data {
            Some(data) => blocking("look which program runs", move || Ok(program(&data))).await?,
            None => None,
        };
        let installed = match program {
            Some(program) => installed(&program).await,
            None => None,
        };
        Ok(Sample { number: u32::try_from(row.number).unwrap_or_default(), version: row.version, installed })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), view: &View) -> Verdict {
        let mut verdict = Verdict::of(format!("PostgreSQL {}", sample.version));
        verdict.measure(Figure::new("postgres_version_number", f64::from(sample.number)));
        let (major, minor) = (sample.number / 10_000, sample.number % 10_000);
        let wanted = self.minimum.iter().filter_map(|text| number(text)).find(|wanted| wanted / 10_000 == major);
        if let Some(wanted) = wanted.filter(|wanted| *wanted > sample.number) {
            verdict.find(
                Finding::new(
                    Severity::Warning,
                    "minor version",
                    format!("runs {major}.{minor}, and {major}.{} is asked for", wanted % 10_000),
                )
                .meaning("Corrections that others have are missing here.")
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
                .meaning(
                    "The update takes effect when the server starts again; until then its corrections are missing.",
                )
                .advice("Restart the server in a quiet hour."),
            );
        }
        let end = END_OF_LIFE.iter().find(|(known, ..)| *known == major);
        let end = end.and_then(|(_, year, month, day)| NaiveDate::from_ymd_opt(*year, *month, *day));
        let notice = Duration::from_std(self.end_of_life_notice).unwrap_or_default();
        let today = view.now.date_naive();
        if let Some(end) = end.filter(|end| *end - today < notice) {
            let summary = match end < today {
                true => format!("PostgreSQL {major} gets no more corrections since {end}"),
                false => format!("PostgreSQL {major} gets no more corrections after {end}"),
            };
            verdict.find(
                Finding::new(Severity::Warning, "end of life", summary)
                    .meaning("Faults that are found after that day, in security too, stay.")
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
    let asked = tokio::process::Command::new(program).arg("--version").kill_on_drop(true).output();
    let said = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await.ok()?.ok()?;
    // postgres (PostgreSQL) 17.7 (Debian 17.7-1.pgdg12+1)
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    number(text.split_whitespace().nth(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_than_installed_than_asked_for_and_at_its_end() {
        let monitor =
            Version { minimum: vec!["17.7".into()], end_of_life_notice: std::time::Duration::from_secs(90 * 86_400) };
        let look = |number, installed, day: &str| {
            let view = View { now: format!("{day}T00:00:00Z").parse().unwrap(), ..View::default() };
            let verdict = monitor.verdict(&Sample { number, version: "x".into(), installed }, &mut (), &view);
            verdict.findings.into_iter().map(|finding| finding.object).collect::<Vec<_>>()
        };
        assert!(look(170_007, Some(170_007), "2026-01-01").is_empty());
        assert_eq!(look(170_006, Some(170_007), "2026-01-01"), ["minor version", "restart after update"]);
        assert_eq!(look(150_001, None, "2027-09-01"), ["end of life"]);
        assert!(look(150_001, None, "2027-08-01").is_empty());
        assert_eq!(look(150_001, None, "2028-08-01"), ["end of life"]);
    }
}
