//! Clusters: what their servers say, and which moments their backups reach.

use super::Scope;
use crate::{
    JobError,
    backups::reach,
    reports::{
        activity::{Activity, seconds},
        overview::ServerOverview,
    },
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_backup::Reachable;
use pgbosun_core::{
    config::{Cluster, Config},
    finding::Severity,
    human,
    report::{ReportSection, ReportTable, VerdictLine},
};
use pgbosun_postgres::Server;

/// How a cluster stands.
pub(super) struct Standing {
    /// Its name.
    pub name: String,
    /// What its server says, or that it says nothing; not asked where the report is about backups alone.
    server: Option<Result<ServerOverview, VerdictLine>>,
    /// The moments its backups reach, if there are any, or why nobody knows.
    pub reach: Result<Option<Reachable>, String>,
}

impl Standing {
    pub async fn of(config: &Config, name: &str, options: &Cluster, activity: &Activity, about: Scope) -> Self {
        let server = match about {
            Scope::Everything => Some(ask(options).await.map_err(|error| {
                let (severity, what) = match error.is_unreachable() {
                    true => (Severity::Critical, "does not answer"),
                    false => (Severity::Warning, "could not be queried"),
                };
                VerdictLine::new(severity, format!("{name} {what}: {}.", human::chain(&error)))
            })),
            Scope::Backups => None,
        };
        let reach = match activity.backups_of(name).next().is_some() || activity.is_backed_up(name) {
            true => reach(config, name).await.map_err(|error| human::chain(&error)),
            false => Ok(None),
        };
        Self { name: name.to_owned(), server, reach }
    }

    /// That its server does not answer.
    pub fn silence(&self) -> Option<VerdictLine> {
        self.server.as_ref()?.as_ref().err().cloned()
    }

    /// How it stands, in a line.
    pub fn line(&self, activity: &Activity, now: DateTime<Utc>) -> VerdictLine {
        let (mut parts, mut severity) = (Vec::new(), Severity::Ok);
        let mut say = |how_bad: Severity, words: String| {
            severity = severity.max(how_bad);
            parts.push(words);
        };
        let good = activity.newest_good(&self.name);
        match good {
            Some(newest) => {
                say(Severity::Ok, format!("newest backup {} old", human::span(now - newest.finished_at)));
                if !activity.is_backed_up(&self.name) {
                    say(Severity::Warning, "no job backs it up any more".into());
                }
            }
            None if activity.is_backed_up(&self.name) => say(Severity::Critical, "no good backup".into()),
            None => say(Severity::Ok, "not backed up".into()),
        }
        match &self.reach {
            Ok(Some(reach)) => say(Severity::Ok, format!("restorable up to {} ago", human::span(now - reach.to))),
            Ok(None) if good.is_some() => say(Severity::Critical, "no repository has a good backup".into()),
            Ok(None) => {}
            Err(reason) => say(Severity::Warning, format!("what can be restored is unknown ({reason})")),
        }
        match activity.test_of(&self.name) {
            Some(test) if test.passed => {
                let (age, took) = (human::span(now - test.started_at), seconds(test.total_seconds));
                say(Severity::Ok, format!("restore test passed {age} ago in {took}"));
            }
            Some(test) => {
                let age = human::span(now - test.started_at);
                say(Severity::Critical, format!("the restore test {age} ago failed"));
            }
            None if good.is_some() => say(Severity::Warning, "restore never tested".into()),
            None => {}
        }
        VerdictLine::new(severity, format!("{}: {}.", self.name, parts.join("; ")))
    }
}

async fn ask(options: &Cluster) -> Result<ServerOverview, JobError> {
    ServerOverview::ask(&Server::of(options)?).await
}

/// The section.
pub(super) fn section(standings: &[Standing], activity: &Activity, now: DateTime<Utc>, zone: Tz) -> ReportSection {
    let mut section = ReportSection::new("Clusters");
    let head = ["cluster", "server", "up since", "size", "newest backup", "restorable up to", "restore test", "alerts"];
    let mut table = ReportTable::new("", &head);
    for standing in standings {
        let name = standing.name.as_str();
        let (server, up, size) = match &standing.server {
            Some(Ok(overview)) => (overview.short(), overview.up(zone), overview.size()),
            Some(Err(line)) if line.severity < Severity::Critical => {
                ("could not be queried".into(), String::new(), String::new())
            }
            Some(Err(_)) => ("does not answer".into(), String::new(), String::new()),
            None => Default::default(),
        };
        let ago = |at: DateTime<Utc>| format!("{} ago", human::span(now - at));
        let newest = activity.newest_good(name);
        let reach = match &standing.reach {
            Ok(Some(reach)) => ago(reach.to),
            Ok(None) => String::new(),
            Err(_) => "unknown".into(),
        };
        let test = activity.test_of(name).map_or_else(String::new, |test| {
            format!("{} {}", if test.passed { "passed" } else { "failed" }, ago(test.started_at))
        });
        let open = activity.open().filter(|alert| alert.cluster.as_deref() == Some(name)).count();
        let alerts = if open == 0 { "none".to_owned() } else { format!("{open} open") };
        let newest = newest.map_or_else(|| "none".to_owned(), |backup| ago(backup.finished_at));
        table.row([name.to_owned(), server, up, size, newest, reach, test, alerts], None);
    }
    if table.rows.is_empty() {
        section.note = Some("No cluster is configured.".into());
    }
    section.tables.push(table);
    section
}
