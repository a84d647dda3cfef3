//! Alerts: the life of a finding from the run that first saw it to the run that no longer does, and what its group was
//! told of that.
//!
//! Invariant: what is to be told is the difference between how an alert stands and what was told of it, so that neither a
//! crash nor a silence loses or repeats anything.

use crate::{
    detail::Detail,
    finding::{Reach, Severity},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The pseudo job of alerts about the daemon.
pub const DAEMON: &str = "daemon";
/// The pseudo job whose alerts say that a channel does not deliver; their object is the channel.
pub const DELIVERY: &str = "delivery";
/// The pseudo job of alerts about the history database.
pub const HISTORY: &str = "pgbosun-history";
/// The pseudo job of alerts about groups that have nobody; their object is the group.
pub const OPERATORS: &str = "pgbosun-operators";
/// The pseudo jobs: the daemon itself finds what their alerts tell, and no configuration may have a job of such a name.
pub const PSEUDO_JOBS: [&str; 4] = [DAEMON, DELIVERY, HISTORY, OPERATORS];

crate::words! {
    /// Where an alert stands.
    pub enum AlertState {
        /// Seen, but not often enough yet to be told.
        Pending = "pending",
        /// Somebody should look.
        Open = "open",
        /// Somebody does.
        Acknowledged = "acknowledged",
        /// It is over.
        Resolved = "resolved",
    }
}

/// One problem. At most one alert per fingerprint is not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity; a problem that comes back is a new alert.
    pub id: Uuid,
    /// `<job>/<object>`: the identity of the problem.
    pub fingerprint: String,
    /// The job that found it.
    pub job: String,
    /// Cluster, where there is one.
    pub cluster: Option<String>,
    /// The operator group that is told.
    pub group: String,
    /// How bad it is now.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// What it explains.
    pub reach: Reach,
    /// What is wrong, one line.
    pub summary: String,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub advice: String,
    /// Figures and lines.
    #[serde(flatten)]
    pub detail: Detail,
    /// How many checks in a row saw it.
    #[serde(rename = "looks")]
    pub checks: u32,
    /// When it was first seen.
    pub opened_at: DateTime<Utc>,
    /// When its state or severity last changed.
    pub changed_at: DateTime<Utc>,
    /// When it was last seen.
    pub seen_at: DateTime<Utc>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Why it is over where nobody saw it to be: somebody said so, or its job looks no more.
    #[serde(default)]
    pub resolution: Option<String>,
    /// The run that last saw it.
    pub run_id: Option<Uuid>,
    /// Who looks at it, while it is acknowledged.
    pub acknowledged: Option<Acknowledgement>,
    /// What the group was told last; never, while there is none.
    #[serde(rename = "told")]
    pub notified: Option<Notified>,
}

/// That somebody looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: DateTime<Utc>,
    /// What they say.
    pub reason: String,
}

/// What a group was told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// When.
    pub at: DateTime<Utc>,
    /// The severity told; [`Severity::Ok`] once it was told that it is over.
    pub severity: Severity,
    /// The worst ever told: whoever hears of that alone hears of the end too.
    pub worst: Severity,
    /// What was told together at first is one incident: one thread of mails.
    pub incident: Uuid,
}

impl Alert {
    /// One that is in a single message and in no journal: nothing is wrong.
    pub fn of_message(id: Uuid, job: &str, group: &str, summary: impl Into<String>, at: DateTime<Utc>) -> Self {
        Self {
            id,
            fingerprint: job.to_owned(),
            job: job.to_owned(),
            cluster: None,
            group: group.to_owned(),
            severity: Severity::Ok,
            state: AlertState::Open,
            reach: Reach::Object,
            summary: summary.into(),
            meaning: String::new(),
            advice: String::new(),
            detail: Detail::new(),
            checks: 1,
            opened_at: at,
            changed_at: at,
            seen_at: at,
            resolved_at: None,
            resolution: None,
            run_id: None,
            acknowledged: None,
            notified: None,
        }
    }

    /// How bad it is, or that it is over.
    pub fn current(&self) -> Severity {
        if self.state == AlertState::Resolved { Severity::Ok } else { self.severity }
    }

    /// What it is about, without the job.
    pub fn object(&self) -> &str {
        let rest = self.fingerprint.strip_prefix(&self.job).and_then(|rest| rest.strip_prefix('/'));
        rest.unwrap_or(&self.fingerprint)
    }
}

crate::words! {
    /// What a message tells of an alert.
    pub enum Notice {
        /// A new problem.
        Opened = "opened",
        /// It got worse, or better without being over.
        Changed = "changed",
        /// It is still there.
        Reminder = "reminder",
        /// Somebody looks at it.
        Acknowledged = "acknowledged",
        /// It is over.
        Resolved = "resolved",
        /// Nothing is wrong: a person asked for a test.
        Test = "test",
        /// Nothing of an alert: a report is attached.
        Report = "report",
        /// Nothing is wrong: a job whose successes are told has succeeded.
        Success = "success",
    }
}

/// A promise to keep quiet about some alerts until a time. They stay open, and what still is is told when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Identity.
    pub id: Uuid,
    /// Which alerts.
    pub matcher: Matcher,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// When somebody ended it before.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Silence {
    /// Whether it is in force.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && now < self.until
    }
}

/// Which alerts: those for which every pattern given matches. `*` in a pattern stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matcher {
    /// Their cluster.
    pub cluster: Option<String>,
    /// Their job.
    pub job: Option<String>,
    /// What they are about.
    pub object: Option<String>,
}

impl Matcher {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.cluster.is_none() && self.job.is_none() && self.object.is_none()
    }

    /// Whether a pattern for clusters or jobs means none of these: mostly a slip of the pen.
    pub fn misses(&self, clusters: &[&str], jobs: &[&str]) -> Option<&str> {
        let missed = |pattern: &&str, names: &[&str]| !names.iter().any(|name| like(pattern, name));
        let cluster = self.cluster.as_deref().filter(|pattern| missed(pattern, clusters));
        cluster.or_else(|| self.job.as_deref().filter(|pattern| missed(pattern, jobs)))
    }

    /// Whether it means this alert.
    pub fn matches(&self, alert: &Alert) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| like(pattern, text));
        fits(&self.cluster, alert.cluster.as_deref().unwrap_or_default())
            && fits(&self.job, &alert.job)
            && fits(&self.object, alert.object())
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| like(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [("main", "main"), ("*", ""), ("main-*", "main-locks"), ("*-backup", "full-backup")] {
            assert!(like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("main", "main2"), ("main-*", "main"), ("*x*", "main"), ("", "main")] {
            assert!(!like(pattern, text), "{pattern} {text}");
        }
    }
}
