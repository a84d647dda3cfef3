//! What a message tells, before any channel has put it into its own words.

use crate::channels::shortened;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    alert::{Alert, Notice},
    finding::Severity,
    human,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// The most characters of a summary in a line that must stay one: subjects.
const SUMMARY: usize = 250;

pgbosun_core::words! {
    /// Why a message is written.
    pub enum Occasion {
        /// Alerts came, changed, stayed or went.
        Alerts = "alerts",
        /// What the limit of a channel had held back.
        Digest = "digest",
        /// A person asked for a test.
        Test = "test",
        /// A report was made.
        Report = "report",
        /// A job succeeded whose successes are told.
        Success = "success",
    }
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What happened to it.
    pub notice: Notice,
    /// How it stood then.
    pub alert: Alert,
}

impl Item {
    /// How bad, in a word.
    pub fn word(&self) -> String {
        match self.notice {
            Notice::Resolved => "RESOLVED".to_owned(),
            Notice::Acknowledged => "ACKNOWLEDGED".to_owned(),
            Notice::Test => "TEST".to_owned(),
            Notice::Success => "SUCCESS".to_owned(),
            _ => self.alert.severity.as_str().to_uppercase(),
        }
    }

    /// How bad it is now.
    pub fn severity(&self) -> Severity {
        if self.notice == Notice::Resolved { Severity::Ok } else { self.alert.severity }
    }
}

/// A report that goes with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Where its data is.
    pub path: PathBuf,
    /// What it says in one line.
    pub headline: String,
    /// How bad that is.
    pub severity: Severity,
}

/// What a message tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulletin {
    /// The group that is told.
    pub group: String,
    /// What subjects of the group begin with.
    pub prefix: String,
    /// Name of the installation.
    pub instance: String,
    /// The zone in which times are told.
    pub zone: Tz,
    /// Why it is written.
    pub occasion: Occasion,
    /// The alerts, worst first.
    pub items: Vec<Item>,
    /// A word besides.
    pub note: Option<String>,
    /// The report it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Attached>,
    /// When it was written.
    pub at: DateTime<Utc>,
}

impl Bulletin {
    /// The worst of it.
    pub fn severity(&self) -> Severity {
        let report = self.report.iter().map(|report| report.severity);
        self.items.iter().map(Item::severity).chain(report).max().unwrap_or(Severity::Ok)
    }

    /// The incidents it belongs to, that of the worst alert first.
    pub fn incidents(&self) -> Vec<Uuid> {
        let mut incidents: Vec<Uuid> = Vec::new();
        for told in self.items.iter().filter_map(|item| item.alert.notified) {
            if !incidents.contains(&told.incident) {
                incidents.push(told.incident);
            }
        }
        incidents
    }

    /// Where an alert is: its cluster, or this machine.
    pub fn place<'a>(&'a self, alert: &'a Alert) -> &'a str {
        alert.cluster.as_deref().unwrap_or(&self.instance)
    }

    /// A time as people of this group read it.
    pub fn moment(&self, at: DateTime<Utc>) -> String {
        human::moment(at, self.zone)
    }

    /// The whole in one line, without the prefix: `CRITICAL main: backup is 27 h old`.
    pub fn headline(&self) -> String {
        let Some(first) = self.items.first() else {
            return self.report.as_ref().map_or_else(|| "nothing".into(), |report| report.headline.clone());
        };
        let digest = if self.occasion == Occasion::Digest { "digest: " } else { "" };
        let still = if first.notice == Notice::Reminder { "still: " } else { "" };
        let more = match self.items.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let summary = shortened(&first.alert.summary, SUMMARY);
        format!("{digest}{} {}: {still}{summary}{more}", first.word(), self.place(&first.alert))
    }

    /// The subject of a mail.
    pub fn subject(&self) -> String {
        format!("{} {}", self.prefix, self.headline())
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use pgbosun_core::{
        alert::{AlertState, Notified},
        detail::Detail,
        finding::Reach,
    };

    /// A message about one alert that was an hour old.
    pub fn bulletin(notice: Notice) -> Bulletin {
        let at = "2026-11-21T12:00:00Z".parse().unwrap();
        let over = notice == Notice::Resolved;
        let severity = if over { Severity::Ok } else { Severity::Critical };
        let alert = Alert {
            id: Uuid::nil(),
            fingerprint: "backup-age/local".into(),
            job: "backup-age".into(),
            cluster: Some("main".into()),
            group: "database".into(),
            severity: Severity::Critical,
            state: if over { AlertState::Resolved } else { AlertState::Open },
            reach: Reach::Object,
            summary: "backup is 27 h old (limit 25 h)".into(),
            meaning: "Whatever changed since the newest backup is lost if the server is.".into(),
            advice: "Run \"pgbosun job run full-backup\".".into(),
            detail: Detail::new()
                .fact("newest", "<20261120T090000Z-full>")
                .time("finished", "2026-11-20T09:00:07Z".parse().unwrap()),
            checks: 1,
            opened_at: "2026-11-21T11:00:00Z".parse().unwrap(),
            changed_at: "2026-11-21T11:00:00Z".parse().unwrap(),
            seen_at: at,
            resolved_at: over.then_some(at),
            run_id: None,
            resolution: None,
            acknowledged: None,
            notified: Some(Notified { at, severity, worst: Severity::Critical, incident: Uuid::from_u128(7) }),
        };
        Bulletin {
            group: "database".into(),
            prefix: "[DB-ALERT]".into(),
            instance: "db1".into(),
            zone: chrono_tz::Europe::Berlin,
            occasion: Occasion::Alerts,
            items: vec![Item { notice, alert }],
            note: None,
            report: None,
            at,
        }
    }

    #[test]
    fn subjects_are_those_of_the_contract() {
        let subject = |notice| bulletin(notice).subject();
        assert_eq!(subject(Notice::Opened), "[DB-ALERT] CRITICAL main: backup is 27 h old (limit 25 h)");
        assert_eq!(subject(Notice::Reminder), "[DB-ALERT] CRITICAL main: still: backup is 27 h old (limit 25 h)");
        assert_eq!(subject(Notice::Resolved), "[DB-ALERT] RESOLVED main: backup is 27 h old (limit 25 h)");
        let mut two = bulletin(Notice::Opened);
        two.items.extend(bulletin(Notice::Resolved).items);
        assert_eq!(two.subject(), "[DB-ALERT] CRITICAL main: backup is 27 h old (limit 25 h) (and 1 more)");
    }
}
