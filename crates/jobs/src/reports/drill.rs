//! The drill report: what a disaster would cost, as restore tests measured it and people planned it, beside what was agreed
//! (references 001, 003 and 004).

mod scenario;

use super::{
    activity::{seconds, told},
    issued,
};
use crate::{Job, JobContext, JobError, backups::RestoreTestJob};
use async_trait::async_trait;
use chrono::TimeDelta;
use pgbosun_core::{
    clock,
    config::{Config, GroupName},
    finding::Severity,
    human, options,
    outcome::Outcome,
    report::{Chart, ChartSeries, ChartUnit, Report, ReportKind, ReportSection, ReportTable, VerdictLine},
};
use pgbosun_history::{Journal, RestoreTestRow};
use scenario::{Played, Scenarios};
use std::time::Duration;
use uuid::Uuid;

options! {
    /// Reports a disaster-recovery drill: for each scenario its phases (as last measured by restore tests, or as planned
    /// for people), the total time, and how much data would be lost, next to the objectives. It uses existing restore
    /// tests; `pgbosun report drill --run` runs new ones first.
    pub struct DrillReport {
        /// The scenarios: `[{ name = "Loss of the server", restore = "latest", before = [{ what = "New server", takes =
        /// "30m", who = "on call" }], after = [{ what = "DNS", takes = "5m" }], recovery-time-objective = "4h" }]`. What
        /// is restored is `latest`, `backup-end`, `moment` (restore tests with that `target`; `random` is a moment), or
        /// `table` (with `extract`). By default one scenario of each kind, without steps for people.
        scenarios: Scenarios;
        /// How far back restore tests count.
        window: Duration = "\"90d\"";
        /// The recovery time objective, unless a scenario sets its own; by default the one of the cluster's restore
        /// tests.
        recovery_time_objective: Option<Duration>;
        /// The recovery point objective, likewise.
        recovery_point_objective: Option<Duration>;
        /// The groups that receive it by mail; nobody if this is empty.
        groups: Vec<GroupName> = "[\"database\"]";
        /// How long its files are kept.
        keep: Duration = "\"365d\"";
    }
}

#[async_trait]
impl Job for DrillReport {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, _) = context.cluster()?;
        let report = self.report(&context.config, &context.journal, cluster).await?;
        Ok(issued(context, report, &self.groups, self.keep))
    }
}

impl DrillReport {
    /// The report of a cluster.
    ///
    /// # Errors
    /// Where history cannot be read.
    pub async fn report(&self, config: &Config, journal: &Journal, cluster: &str) -> Result<Report, JobError> {
        let to = clock::now();
        let window = (to - TimeDelta::from_std(self.window).unwrap_or(TimeDelta::days(90)), to);
        let tests = journal.restore_tests(Some(cluster), window).await?;
        let (time, point) = RestoreTestJob::objectives(config, cluster);
        let (time, point) = (self.recovery_time_objective.or(time), self.recovery_point_objective.or(point));
        let played: Vec<_> = self.scenarios.all().iter().map(|scenario| scenario.play(&tests, time, point)).collect();
        let zone = config.daemon.time_zone;
        let mut sections = vec![summary(&played)];
        sections.extend(played.iter().filter_map(|played| played.section(zone)));
        sections.push(self::tests(&tests, time, zone));
        Ok(Report {
            id: Uuid::now_v7(),
            kind: ReportKind::Drill,
            title: format!("Disaster-recovery drill of {cluster}"),
            cluster: Some(cluster.to_owned()),
            instance: config.instance_name(),
            from: window.0,
            to: window.1,
            zone,
            made_at: clock::now(),
            verdict: verdict(&played, &tests),
            sections,
        })
    }
}

/// What holds and what does not, the worst first.
fn verdict(played: &[Played<'_>], tests: &[RestoreTestRow]) -> Vec<VerdictLine> {
    if tests.is_empty() {
        let text = "No restore test ran in this window: the cost of a disaster is unknown. Run \
                    \"pgbosun report drill --run\".";
        return vec![VerdictLine::new(Severity::Critical, text)];
    }
    let mut lines: Vec<_> = played.iter().filter_map(Played::line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.severity));
    lines
}

/// All scenarios in one table.
fn summary(played: &[Played<'_>]) -> ReportSection {
    let mut section = ReportSection::new("Objectives");
    let head = ["scenario", "recovery time", "objective", "recovery point", "objective", "result"];
    let mut table = ReportTable::new("", &head);
    for played in played {
        table.row(played.cells(), None);
    }
    section.tables.push(table);
    section
}

/// The tests it was made from, and how their times developed.
fn tests(tests: &[RestoreTestRow], objective: Option<Duration>, zone: chrono_tz::Tz) -> ReportSection {
    let mut section = ReportSection::new("Restore tests used");
    let points: Vec<_> = tests.iter().rev().map(|test| (test.started_at, 1000.0 * test.total_seconds)).collect();
    if let (Some(first), Some(last), true) = (points.first(), points.last(), points.len() > 1) {
        let limit = objective.map(|limit| {
            let limit = limit.as_secs_f64() * 1000.0;
            ChartSeries { name: "objective".into(), points: vec![(first.0, limit), (last.0, limit)] }
        });
        let series = [ChartSeries { name: "measured".into(), points: points.clone() }];
        section.charts.push(Chart {
            name: "recovery-time".into(),
            title: "Measured recovery time".into(),
            unit: ChartUnit::Milliseconds,
            series: series.into_iter().chain(limit).collect(),
        });
    }
    let head =
        ["when", "backup", "recovered to", "find", "fetch", "recover", "check", "total", "age of state", "result"];
    let mut table = ReportTable::new("", &head);
    let most = tests.iter().map(|test| test.total_seconds).fold(f64::MIN_POSITIVE, f64::max);
    for test in tests.iter().take(20) {
        let cells = [
            told(test.started_at, zone),
            format!("{} in {}", test.label, test.repository),
            test.target.clone(),
            seconds(test.find_seconds),
            seconds(test.restore_seconds),
            seconds(test.recovery_seconds),
            seconds(test.check_seconds),
            seconds(test.total_seconds),
            seconds(test.recovery_point_age_seconds),
            if test.passed { "passed" } else { "failed" }.to_owned(),
        ];
        table.row(cells, Some(test.total_seconds / most));
    }
    match tests.first() {
        Some(newest) => {
            section.tables.push(table);
            let mut found =
                ReportTable::new(&format!("What the newest test found: {}", human_detail(newest)), &["check"]);
            newest.detail.lines().take(20).for_each(|line| found.row([line], None));
            section.tables.extend((!found.rows.is_empty()).then_some(found));
        }
        None => section.note = Some("None in this window.".into()),
    }
    section
}

fn human_detail(test: &RestoreTestRow) -> String {
    let age = human::span(clock::now() - test.started_at);
    format!("{}, {age} ago", if test.passed { "all checks passed" } else { "some checks failed" })
}
