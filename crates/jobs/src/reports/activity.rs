//! What pgbosun itself did: backups, restore tests, jobs, maintenance, alerts, recommendations; of a cluster, or of all.

use super::Span;
use crate::JobError;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    config::{Config, Job},
    family::Family,
    finding::Severity,
    human,
    maintenance::Ending,
    outcome::BackupState,
    report::{KeyFigure, ReportSection, ReportTable, VerdictLine},
    run::RunState,
};
use pgbosun_history::{AlertRow, BackupRow, JobTally, Journal, MaintenanceRow, RecommendationRow, RestoreTestRow};
use std::{collections::BTreeSet, time::Duration};

/// Rows shown of a table.
const SHOWN: usize = 15;

/// What history knows of a window.
#[derive(Debug)]
pub(super) struct Activity {
    window: Span,
    /// Clusters that are backed up.
    backed_up: BTreeSet<String>,
    /// Clusters of which a backup was due in the window, and none succeeded.
    due: BTreeSet<String>,
    /// Backups there are, newest first.
    pub backups: Vec<BackupRow>,
    /// The newest restore test of each cluster.
    tests: Vec<RestoreTestRow>,
    /// How jobs went.
    pub jobs: Vec<JobTally>,
    /// Alerts that were open.
    pub alerts: Vec<AlertRow>,
    maintenance: Vec<MaintenanceRow>,
    recommendations: Vec<RecommendationRow>,
}

/// Some seconds, as people read them.
pub(super) fn seconds(seconds: f64) -> String {
    human::duration(Duration::from_secs_f64(seconds.max(0.0)))
}

/// A time, as people in a zone read it.
pub(super) fn told(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
}

impl Activity {
    /// Reads it.
    pub async fn read(
        config: &Config,
        journal: &Journal,
        cluster: Option<&str>,
        window: Span,
    ) -> Result<Self, JobError> {
        let here = |name: &str| cluster.is_none_or(|cluster| cluster == name);
        let mut backups = journal.backups().await?;
        backups.retain(|backup| here(&backup.cluster) && backup.state != BackupState::Removed);
        let mut tests = journal.last_restore_tests().await?;
        tests.retain(|test| here(&test.cluster));
        let mut maintenance = journal.maintenance(window.0, window.1).await?;
        maintenance.retain(|row| here(&row.cluster));
        let backup_jobs = config.jobs.values().filter(|job| job.common.enabled && job.family() == Family::Backup);
        let of_cluster = |job: &Job| Some(config.cluster_of(job)?.0.to_owned());
        let jobs = journal.job_tallies(cluster, window).await?;
        let missed = |job: &&Job| jobs.iter().any(|tally| tally.job == job.name && tally.succeeded == 0);
        let due = backup_jobs.clone().filter(missed).filter_map(of_cluster).collect();
        Ok(Self {
            window,
            backed_up: backup_jobs.filter_map(of_cluster).collect(),
            due,
            backups,
            tests,
            jobs,
            alerts: journal.alerts_between(cluster, window).await?,
            maintenance,
            recommendations: journal.recommendations(cluster).await?,
        })
    }

    /// Whether backups of a cluster are configured.
    pub fn is_backed_up(&self, cluster: &str) -> bool {
        self.backed_up.contains(cluster)
    }

    /// The backups of a cluster, newest first.
    pub fn backups_of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a BackupRow> {
        self.backups.iter().filter(move |backup| backup.cluster == cluster)
    }

    /// The newest good backup of a cluster.
    pub fn newest_good<'a>(&'a self, cluster: &'a str) -> Option<&'a BackupRow> {
        self.backups_of(cluster).find(|backup| backup.state.is_good())
    }

    /// The newest restore test of a cluster.
    pub fn test_of(&self, cluster: &str) -> Option<&RestoreTestRow> {
        self.tests.iter().find(|test| test.cluster == cluster)
    }

    /// Whether a backup ended in the window.
    pub fn is_new(&self, backup: &BackupRow) -> bool {
        (self.window.0..self.window.1).contains(&backup.finished_at)
    }

    /// Leaves out the backups that a repository says it does not have, and returns them.
    pub fn leave_out(&mut self, gone: impl Fn(&BackupRow) -> bool) -> Vec<BackupRow> {
        let (left, stay) = std::mem::take(&mut self.backups).into_iter().partition(|backup| gone(backup));
        self.backups = stay;
        left
    }

    /// The alerts that are open still.
    pub fn open(&self) -> impl Iterator<Item = &AlertRow> {
        self.alerts.iter().filter(|alert| alert.resolved_at.is_none())
    }

    /// That a cluster has no backup, or got none although one was due.
    pub fn missing_backup(&self, cluster: &str) -> Option<VerdictLine> {
        if !self.is_backed_up(cluster) {
            return None;
        }
        let Some(newest) = self.newest_good(cluster) else {
            let text = format!("There is no good backup of {cluster}: see \"pgbosun job history\".");
            return Some(VerdictLine::new(Severity::Critical, text));
        };
        (self.due.contains(cluster) && !self.is_new(newest)).then(|| {
            let age = human::span(self.window.1 - newest.finished_at);
            let text = format!(
                "No backup of {cluster} finished in this window; the newest is {age} old: see \"pgbosun job history\"."
            );
            VerdictLine::new(Severity::Critical, text)
        })
    }

    /// What was critical, as somebody was told, and is over.
    pub fn outages(&self, zone: Tz, wanted: impl Fn(&AlertRow) -> bool) -> Vec<VerdictLine> {
        let over = |alert: &&AlertRow| alert.severity == Severity::Critical && alert.told && wanted(alert);
        let lasted = |alert: &AlertRow| {
            let span = alert.resolved_at? - alert.opened_at;
            let place = alert.cluster.as_deref().unwrap_or("this machine");
            let since = told(alert.opened_at, zone);
            let text = format!(
                "Was critical, now resolved: {place}: {}, for {} from {since}.",
                alert.summary,
                human::span(span)
            );
            Some(VerdictLine::new(Severity::Warning, text))
        };
        self.alerts.iter().filter(over).filter_map(lasted).collect()
    }

    /// The jobs that failed: those whose last run did, and those that work again; not monitors that work again, which failed
    /// with what they watch.
    pub fn failures(&self, wanted: impl Fn(&JobTally) -> bool) -> Vec<VerdictLine> {
        let broken = |job: &JobTally| !matches!(job.last_state, RunState::Succeeded | RunState::Skipped);
        let failed = self.jobs.iter().filter(|job| job.failed > 0 && wanted(job));
        let (broken, mut works): (Vec<_>, Vec<_>) = failed.partition(|job| broken(job));
        works.retain(|job| !matches!(Family::of(&job.kind), Family::Monitor | Family::Sample));
        let names = |jobs: Vec<&JobTally>| jobs.iter().map(|job| job.job.as_str()).collect::<Vec<_>>().join(", ");
        let mut lines = Vec::new();
        if !broken.is_empty() {
            lines.push(VerdictLine::new(Severity::Warning, format!("Last run failed: {}.", names(broken))));
        }
        if !works.is_empty() {
            let text = format!("Failed in this window, but the last run succeeded: {}.", names(works));
            lines.push(VerdictLine::new(Severity::Warning, text));
        }
        lines
    }

    /// Backups, restore tests, jobs, maintenance and alerts of one cluster.
    pub fn section(&self, cluster: &str, zone: Tz) -> ReportSection {
        let mut section = ReportSection::new("Backups, jobs and alerts");
        let figures = &mut section.figures;
        match self.newest_good(cluster) {
            Some(newest) => {
                let size = human::size(newest.stored_bytes.unsigned_abs());
                let value = format!("{} in {}, {size}", told(newest.finished_at, zone), newest.repository);
                figures.push(KeyFigure::new("newest good backup", value));
                let new = self.backups_of(cluster).filter(|backup| self.is_new(backup)).count();
                figures.push(KeyFigure::new("backups in this window", new.to_string()));
                figures.push(KeyFigure::new("backups in total", self.backups_of(cluster).count().to_string()));
            }
            None => {
                let severity = if self.is_backed_up(cluster) { Severity::Critical } else { Severity::Ok };
                figures.push(KeyFigure::new("newest good backup", "none").as_bad_as(severity));
            }
        }
        if let Some(test) = self.test_of(cluster) {
            let at = told(test.started_at, zone);
            let value = match test.passed {
                true => format!(
                    "{at} passed: recovery takes {} (RTO), to a state {} old (RPO)",
                    seconds(test.total_seconds),
                    seconds(test.recovery_point_age_seconds)
                ),
                false => format!("{at} failed: {}", test.detail.lines().next().unwrap_or_default()),
            };
            let severity = if test.passed { Severity::Ok } else { Severity::Critical };
            figures.push(KeyFigure::new("last restore test", value).as_bad_as(severity));
        }
        section.tables.extend(self.jobs_table(|_| true));
        section.tables.extend((!self.maintenance.is_empty()).then(|| self.maintained()));
        section.tables.extend(self.alerts_table(zone, |_| true));
        section
    }

    /// How jobs went, where any of these did.
    pub fn jobs_table(&self, wanted: impl Fn(&JobTally) -> bool) -> Option<ReportTable> {
        let mut table = ReportTable::new("Jobs", &["job", "succeeded", "failed", "not run", "longest", "last message"]);
        for job in self.jobs.iter().filter(|job| wanted(job)).take(2 * SHOWN) {
            let last: String = job.last.lines().next().unwrap_or_default().chars().take(140).collect();
            table.row(
                [
                    job.job.clone(),
                    job.succeeded.to_string(),
                    job.failed.to_string(),
                    job.not_run.to_string(),
                    seconds(job.longest_seconds),
                    last,
                ],
                None,
            );
        }
        (!table.rows.is_empty()).then_some(table)
    }

    /// Alerts, where there were any of these.
    pub fn alerts_table(&self, zone: Tz, wanted: impl Fn(&AlertRow) -> bool) -> Option<ReportTable> {
        let alerts: Vec<_> = self.alerts.iter().filter(|alert| wanted(alert)).collect();
        let title = match alerts.len() {
            count if count > SHOWN => format!("Alerts: {SHOWN} of {count}, open ones first"),
            _ => "Alerts".to_owned(),
        };
        let mut table = ReportTable::new(&title, &["severity", "since", "until", "where", "what"]);
        for alert in alerts.into_iter().take(SHOWN) {
            let until = alert.resolved_at.map_or_else(|| "open".to_owned(), |at| told(at, zone));
            let place = alert.cluster.clone().unwrap_or_else(|| "this machine".into());
            let cells = [alert.severity.to_string(), told(alert.opened_at, zone), until, place, alert.summary.clone()];
            table.row(cells, None);
        }
        (!table.rows.is_empty()).then_some(table)
    }

    /// What maintenance gave back, most first.
    fn maintained(&self) -> ReportTable {
        let mut rows: Vec<_> = self.maintenance.iter().filter(|row| row.result == Ending::Done).collect();
        let freed = |row: &MaintenanceRow| {
            row.bytes_before.zip(row.bytes_after).map_or(0, |(before, after)| (before - after).max(0))
        };
        rows.sort_by_key(|row| std::cmp::Reverse(freed(row)));
        let left_out = self.maintenance.len() - rows.len();
        let title = format!("Maintenance: {} done, {left_out} skipped or failed", rows.len());
        let mut done = ReportTable::new(&title, &["what", "object", "before", "after", "took", "why"]);
        let size = |bytes: Option<i64>| bytes.map_or_else(String::new, |bytes| human::size(bytes.unsigned_abs()));
        for row in rows.into_iter().take(SHOWN) {
            let cells = [
                row.action.to_string(),
                format!("{}: {}", row.database, row.object),
                size(row.bytes_before),
                size(row.bytes_after),
                seconds(row.seconds),
                row.reason.clone(),
            ];
            done.row(cells, None);
        }
        done
    }

    /// Indexes that somebody may drop since nobody reads them.
    pub fn unused(&self) -> usize {
        self.recommendations.iter().filter(|given| given.topic == "unused-index").count()
    }

    /// How much is recommended.
    pub fn recommended(&self) -> usize {
        self.recommendations.len()
    }

    /// What is recommended.
    pub fn advice(&self) -> ReportSection {
        let mut section = ReportSection::new("Recommendations");
        if self.recommendations.is_empty() {
            section.note = Some("None. A job of kind maintenance.advice looks for them.".into());
            return section;
        }
        let mut given = ReportTable::new("Suggested changes", &["topic", "object", "why", "SQL"]);
        for row in self.recommendations.iter().take(3 * SHOWN) {
            given.row(
                [
                    row.topic.clone(),
                    format!("{}: {}", row.database, row.object),
                    row.reason.clone(),
                    row.statement.clone(),
                ],
                None,
            );
        }
        section.tables.push(given);
        section
    }
}
