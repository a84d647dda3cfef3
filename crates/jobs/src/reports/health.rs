//! The health report: how everything stands (reference 002: Mondays at 9:00), or the backups alone (reference 000: a daily
//! mail about them).

mod backups;
mod clusters;
mod storage;

use super::{Span, activity::Activity, issued};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use chrono::TimeDelta;
use clusters::Standing;
use futures::future::join_all;
use pgbosun_core::{
    clock,
    config::{Config, GroupName},
    family::{Family, short_name},
    finding::Severity,
    human, options,
    outcome::Outcome,
    report::{KeyFigure, Report, ReportKind, ReportSection, VerdictLine},
};
use pgbosun_history::{AlertRow, Journal};
use std::{sync::Arc, time::Duration};
use storage::Holding;
use uuid::Uuid;

options! {
    /// Reports the state of everything: clusters, backups and the moments they can be restored to, restore tests,
    /// storage, jobs, alerts. It covers one cluster if the job names one, otherwise all. It is kept as a page in
    /// `reports` in the state directory, and sent by mail. For a daily mail about backups, set `about = "backups"` and
    /// `window = "1d"`.
    pub struct HealthReport {
        /// What to report on: `everything`, or only `backups`.
        about: Scope = "\"everything\"";
        /// The period whose backups, runs and alerts are listed, ending when the report is made.
        window: Duration = "\"7d\"";
        /// The groups that receive it by mail; nobody if this is empty.
        groups: Vec<GroupName> = "[\"database\"]";
        /// How long its files are kept.
        keep: Duration = "\"90d\"";
    }
}

pgbosun_core::words! {
    /// What a health report is about.
    pub enum Scope {
        /// Everything.
        Everything = "everything",
        /// Backups, WAL, restore tests, and what keeps them.
        Backups = "backups",
    }
}

pgbosun_core::word_settings! {
    Scope: "\"everything\" or \"backups\"";
}

/// Lines of the verdict at most.
const MOST: usize = 5;
/// Open alerts among them at most.
const ALERTS: usize = 3;

#[async_trait]
impl Job for HealthReport {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let to = clock::now();
        let health = Health {
            config: Arc::clone(&context.config),
            journal: context.journal.clone(),
            cluster: context.cluster.as_ref().map(|(name, _)| name.clone()),
            about: self.about,
            window: (to - TimeDelta::from_std(self.window).unwrap_or(TimeDelta::days(7)), to),
        };
        let report = context.in_bulk(async move { health.report().await }).await?;
        Ok(issued(context, report, &self.groups, self.keep))
    }
}

/// A health report to be.
#[derive(Clone, Debug)]
pub struct Health {
    /// The configuration.
    pub config: Arc<Config>,
    /// History.
    pub journal: Journal,
    /// Of this cluster; of all without.
    pub cluster: Option<String>,
    /// What it is about.
    pub about: Scope,
    /// The window.
    pub window: Span,
}

impl Health {
    /// Makes it. Repositories are read: it runs away from the scheduler's threads.
    ///
    /// # Errors
    /// Where history cannot be read. A server or a repository that does not answer is a sentence of the report.
    pub async fn report(&self) -> Result<Report, JobError> {
        let cluster = self.cluster.as_deref();
        let mut activity = Activity::read(&self.config, &self.journal, cluster, self.window).await?;
        // History knows what there was: the repositories have the last word.
        let holdings = Holding::of_all(&self.config).await;
        let lost = activity.leave_out(|backup| holdings.iter().any(|holding| holding.lacks(backup)));
        let here = self.config.clusters.iter().filter(|(name, _)| cluster.is_none_or(|cluster| cluster == *name));
        let standings = here.map(|(name, options)| Standing::of(&self.config, name, options, &activity, self.about));
        let standings = join_all(standings).await;
        let tests = self.journal.restore_tests(cluster, self.window).await?;
        let zone = self.config.daemon.time_zone;
        let everything = self.about == Scope::Everything;
        let mut sections = Vec::new();
        if everything {
            sections.push(clusters::section(&standings, &activity, self.window.1, zone));
        }
        sections.push(backups::section(&standings, &activity, self.window.1, zone));
        sections.push(backups::tests(&self.config, &standings, &activity, &tests, zone));
        sections.push(storage::section(&self.config, &activity, &holdings).await);
        sections.push(self.operation(&activity).await?);
        let about = if everything { "Health" } else { "Backups" };
        let instance = self.config.instance_name();
        Ok(Report {
            id: Uuid::now_v7(),
            kind: if everything { ReportKind::Health } else { ReportKind::Backups },
            title: format!("{about} of {}", cluster.unwrap_or(&instance)),
            cluster: self.cluster.clone(),
            instance,
            from: self.window.0,
            to: self.window.1,
            zone,
            made_at: clock::now(),
            verdict: self.verdict(&standings, &activity, storage::lines(&holdings, &lost)),
            sections,
        })
    }

    /// Whether a kind of job is about what this report is about.
    fn concerns(&self, kind: &str) -> bool {
        let about_backups = match Family::of(kind) {
            Family::Backup | Family::Repository | Family::Verify | Family::RestoreTest => true,
            Family::Monitor => watches_backups(kind),
            _ => false,
        };
        self.about == Scope::Everything || about_backups
    }

    /// The kind of the job that raised an alert; none where it is the daemon's own, or not configured any more.
    fn kind_of(&self, alert: &AlertRow) -> &str {
        self.config.jobs.get(&alert.job).map_or("", |job| job.common.kind.as_str())
    }

    fn concerns_alert(&self, alert: &AlertRow) -> bool {
        self.concerns(self.kind_of(alert))
    }

    /// Jobs and alerts, and pgbosun itself.
    async fn operation(&self, activity: &Activity) -> Result<ReportSection, JobError> {
        let mut section = ReportSection::new("Jobs and alerts");
        if self.about == Scope::Everything {
            let waiting = self.journal.outbox_depth().await?;
            section.figures.push(KeyFigure::new("messages waiting to be sent", waiting.to_string()));
            section
                .figures
                .push(KeyFigure::new("recommendations from maintenance.advice", activity.recommended().to_string()));
        }
        section.tables.extend(activity.alerts_table(self.config.daemon.time_zone, |alert| self.concerns_alert(alert)));
        section.tables.extend(activity.jobs_table(|job| self.concerns(&job.kind)));
        if section.tables.is_empty() {
            section.note = Some("No job ran in this window, and no alert was open.".into());
        }
        Ok(section)
    }

    fn verdict(&self, standings: &[Standing], activity: &Activity, storage: Vec<VerdictLine>) -> Vec<VerdictLine> {
        let mut open: Vec<_> = activity.open().filter(|alert| self.concerns_alert(alert)).collect();
        open.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        let mut lines: Vec<_> = open
            .iter()
            .take(ALERTS)
            .map(|alert| {
                let place = alert.cluster.as_ref().map_or_else(String::new, |cluster| format!("{cluster}: "));
                let age = human::span(self.window.1 - alert.opened_at);
                VerdictLine::new(alert.severity, format!("{place}{}, for {age}.", alert.summary))
            })
            .collect();
        if let Some(next) = open.get(ALERTS) {
            let text = format!("{}: see \"pgbosun alert list\".", human::count(open.len() - ALERTS, "more alert"));
            lines.push(VerdictLine::new(next.severity, text));
        }
        lines.extend(storage);
        // Unless an alert says the same.
        let told = |cluster: &str, by: fn(&str) -> bool| {
            let here = |alert: &&&AlertRow| alert.cluster.as_deref() == Some(cluster);
            open.iter().filter(here).any(|alert| by(self.kind_of(alert)))
        };
        let by_backups = |kind: &str| Family::of(kind) == Family::Backup || kind.starts_with("monitor.backup-");
        for Standing { name, .. } in standings.iter().filter(|standing| !told(&standing.name, by_backups)) {
            lines.extend(activity.missing_backup(name));
        }
        for standing in standings.iter().filter(|standing| !told(&standing.name, |kind| kind == "monitor.connectivity"))
        {
            lines.extend(standing.silence());
        }
        lines.extend(
            activity.outages(self.config.daemon.time_zone, |alert| self.concerns_alert(alert)).into_iter().take(1),
        );
        lines.extend(activity.failures(|job| self.concerns(&job.kind)));
        let (backed_up, others): (Vec<_>, Vec<_>) =
            standings.iter().partition(|standing| activity.is_backed_up(&standing.name));
        lines.extend(backed_up.iter().chain(&others).map(|standing| standing.line(activity, self.window.1)));
        lines.sort_by_key(|line| std::cmp::Reverse(line.severity));
        // Nothing critical is left out.
        let critical = lines.iter().filter(|line| line.severity == Severity::Critical).count();
        let kept = MOST.max(critical);
        if let Some(next) = lines.get(kept) {
            let text = format!("{} not shown.", human::count(lines.len() - kept, "more line"));
            let severity = next.severity;
            lines.truncate(kept);
            lines.push(VerdictLine::new(severity, text));
        }
        if lines.is_empty() {
            lines.push(VerdictLine::new(Severity::Warning, "No cluster is configured: there is nothing to report on."));
        }
        lines
    }
}
/// Whether a monitor is about backups, or what they cannot do without.
fn watches_backups(monitor: &str) -> bool {
    let name = short_name(monitor);
    ["disk", "slots", "restore-tests"].contains(&name) || name.starts_with("backup-") || name.starts_with("wal-")
}
