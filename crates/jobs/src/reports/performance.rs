//! The performance report (reference 000 section 6: daily at 06:00, ten sections).

mod live;
mod load;
mod machine;
mod statements;
mod verdict;

use super::{Span, activity::Activity, issued, window::Window};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use chrono::TimeDelta;
use pgbosun_core::{
    clock,
    config::{Config, GroupName},
    finding::Severity,
    options,
    outcome::Outcome,
    report::{ChartUnit, KeyFigure, Report, ReportKind, ReportSection},
};
use pgbosun_history::Journal;
use pgbosun_postgres::Server;
use std::time::Duration;
use uuid::Uuid;

options! {
    /// Reports what a server did, from samples: a verdict first, then sections from uptime to the machine, each number
    /// next to the ones of the window before and of a week ago. It is kept as a page in `reports` in the state directory,
    /// and sent by mail. Samples are taken every 5 minutes once this job is configured.
    pub struct PerformanceReport {
        /// The period to report on, ending when the report is made.
        window: Duration = "\"1d\"";
        /// The groups that receive it by mail; nobody if this is empty.
        groups: Vec<GroupName> = "[\"database\"]";
        /// How long its files are kept.
        keep: Duration = "\"90d\"";
    }
}

#[async_trait]
impl Job for PerformanceReport {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, server) = context.cluster()?;
        let to = clock::now();
        let window = TimeDelta::from_std(self.window).unwrap_or(TimeDelta::days(1));
        let about = About { config: &context.config, journal: &context.journal, cluster, server };
        let report = performance(&about, (to - window, to), None).await?;
        Ok(issued(context, report, &self.groups, self.keep))
    }
}

/// What a report is about, and where it is read.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// History.
    pub journal: &'a Journal,
    /// The cluster.
    pub cluster: &'a str,
    /// Its server.
    pub server: &'a Server,
}

/// The windows a report looks at.
struct Windows {
    now: Window,
    before: Window,
    week: Window,
}

impl Windows {
    /// A figure in all three.
    fn figure(&self, label: &str, unit: ChartUnit, of: impl Fn(&Window) -> Option<f64>) -> KeyFigure {
        let told = |window: &Window| (!window.is_empty()).then(|| of(window)).flatten().map(|value| unit.format(value));
        KeyFigure {
            label: label.to_owned(),
            value: told(&self.now).unwrap_or_else(|| "unknown".into()),
            before: told(&self.before),
            week: told(&self.week),
            severity: Severity::Ok,
        }
    }
}

/// The report about a window; beside the one before, or the one given.
///
/// # Errors
/// Where history cannot be read.
pub async fn performance(about: &About<'_>, (from, to): Span, beside: Option<Span>) -> Result<Report, JobError> {
    let read = |window| Window::read(about.journal, about.cluster, window);
    let (week, length) = (TimeDelta::days(7), to - from);
    let windows = Windows {
        now: read((from, to)).await?,
        before: read(beside.unwrap_or((from - length, from))).await?,
        week: read((from - week, to - week)).await?,
    };
    let live = live::ask(about.server).await;
    let texts = about.journal.queries(about.cluster).await?;
    let activity = Activity::read(about.config, about.journal, Some(about.cluster), (from, to)).await?;
    let (growth, full) = load::growth(about, &windows, to).await?;
    let sections = vec![
        live.section(about.config.daemon.time_zone),
        load::connections(&windows),
        statements::section(&windows, &texts, &live),
        live.bloat(),
        load::indexes(&windows, &activity),
        load::locks(&windows),
        load::checkpoints(&windows),
        load::wal(&windows),
        load::cache(&windows),
        machine::section(&windows, &live),
        growth,
        activity.section(about.cluster, about.config.daemon.time_zone),
        activity.advice(),
    ];
    Ok(Report {
        id: Uuid::now_v7(),
        kind: ReportKind::Performance,
        title: format!("Performance of {}", about.cluster),
        cluster: Some(about.cluster.to_owned()),
        instance: about.config.instance_name(),
        from,
        to,
        zone: about.config.daemon.time_zone,
        made_at: clock::now(),
        verdict: verdict::of(&windows, (about.cluster, about.config.daemon.time_zone), &texts, &live, &activity, full),
        sections: sections.into_iter().filter(|section: &ReportSection| !section.title.is_empty()).collect(),
    })
}
