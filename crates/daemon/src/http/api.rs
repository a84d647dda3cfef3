//! The types of the control socket: HTTP with JSON over a unix socket. `--json` prints answers as they are, with keys in snake_case as
//! everything it prints (docs/json.schema.json); what is asked keeps the kebab-case that daemons of earlier versions know, and their answers in it are understood.

use crate::schedule::Upcoming;
use chrono::{DateTime, Utc};
use pgbosun_backup::Words;
use pgbosun_core::{
    alert::{Alert, Matcher},
    lsn::Lsn,
    run::Run,
};
use pgbosun_history::RestoreTestRow;
use pgbosun_jobs::{Scope, Span};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// The header in which a command says who started it by sudo.
pub const SUDO_USER: &str = "x-sudo-user";

/// How everything stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Status {
    /// Version of the program that answers.
    pub version: String,
    /// Name of the installation.
    pub instance: String,
    /// When the daemon started; none where there is no daemon.
    #[serde(alias = "daemon-since")]
    pub daemon_since: Option<DateTime<Utc>>,
    /// When this was put together.
    pub at: DateTime<Utc>,
    /// Who paused everything, and why.
    pub paused: Option<String>,
    /// Configured clusters.
    pub clusters: Vec<ClusterStatus>,
    /// What lies in the repositories and cannot be read, in words.
    #[serde(default)]
    pub unreadable: Vec<String>,
    /// Alerts that are not resolved, worst first.
    pub alerts: Vec<AlertInfo>,
    /// Runs at work.
    pub running: Vec<Running>,
    /// The next runs but those of monitors.
    pub next: Vec<Upcoming>,
    /// How many monitors there are.
    pub monitors: usize,
    /// When the next of them runs.
    #[serde(rename = "next_look", alias = "next-look")]
    pub next_check: Option<DateTime<Utc>>,
    /// The last run of every job that ran.
    pub last: Vec<Run>,
    /// Messages that wait to be sent.
    pub outbox: u32,
    /// What is wrong with the history database.
    pub history: HistoryStatus,
}

/// An alert, and whether anybody is told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct AlertInfo {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// Why it is not told at this moment: a silence, or another alert that explains it.
    pub muted: Option<String>,
}

/// A silence to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SilenceRequest {
    /// Which alerts.
    pub matcher: Matcher,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// A group whose channels are to be tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupTestRequest {
    /// Its name.
    pub group: String,
}

/// What became of a message that tests a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct GroupTest {
    /// Why others may have been told than those of the history database.
    pub note: Option<String>,
    /// Each of its channels.
    pub channels: Vec<Tried>,
}

impl GroupTest {
    /// What came of it, for the audit log.
    pub fn outcome(&self) -> String {
        let refused: Vec<_> =
            self.channels.iter().filter(|tried| !tried.accepted).map(|tried| &*tried.channel).collect();
        if refused.is_empty() { "accepted".to_owned() } else { format!("not accepted by {}", refused.join(", ")) }
    }
}

/// What became of it by one channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Tried {
    /// The channel.
    pub channel: String,
    /// Who was told, or was to be.
    pub to: Vec<String>,
    /// Whether the other side took it.
    pub accepted: bool,
    /// What it said, or why not.
    pub answer: String,
}

/// How delivery to `dba_ops` stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct HistoryStatus {
    /// Whether one is configured.
    pub configured: bool,
    /// Since when it is out of reach, and why.
    pub trouble: Option<String>,
}

/// One cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ClusterStatus {
    /// Name.
    pub name: String,
    /// Its server, as far as monitors know it.
    #[serde(default)]
    pub server: Option<ServerStatus>,
    /// The newest good backup in each repository.
    pub backups: Vec<NewestBackup>,
    /// How many backups the repositories hold.
    #[serde(alias = "backup-count")]
    pub backup_count: usize,
    /// The moments that a restore can reach, where that can be found out.
    #[serde(default)]
    pub restorable: Option<Restorable>,
    /// The newest restore test.
    #[serde(alias = "restore-test")]
    pub restore_test: Option<RestoreTest>,
    /// The receiver of its WAL, where one runs in this daemon.
    pub receiver: Option<Receiver>,
    /// How its server archives, as `monitor.wal-archive` saw it last.
    #[serde(default)]
    pub archive: Option<ArchiveStatus>,
}

/// A server, as monitors saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ServerStatus {
    /// Whether it takes connections.
    pub answers: Option<bool>,
    /// Its version, such as `17.7`.
    pub version: Option<String>,
    /// Whether it is a standby.
    pub standby: Option<bool>,
    /// When it started.
    #[serde(alias = "started-at")]
    pub started_at: Option<DateTime<Utc>>,
}

/// The moments that a restore can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Restorable {
    /// The first.
    pub from: DateTime<Utc>,
    /// The last.
    pub to: DateTime<Utc>,
}

/// How a server archives its WAL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ArchiveStatus {
    /// When it archived a segment last.
    #[serde(alias = "last-archived-at")]
    pub last_archived_at: Option<DateTime<Utc>>,
    /// Segments that wait.
    pub waiting: u64,
    /// Whether its last try failed.
    pub failing: bool,
}

/// A receiver of WAL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Receiver {
    /// Durable on this machine up to here.
    pub flushed: Lsn,
    /// Bytes the server has written beyond that.
    #[serde(alias = "behind-bytes")]
    pub behind_bytes: u64,
    /// Why it does not receive at this moment.
    pub trouble: Option<String>,
}

/// A backup in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct NewestBackup {
    /// Repository.
    pub repository: String,
    /// Label.
    pub label: String,
    /// What is known of it.
    pub state: String,
    /// When it ended.
    #[serde(alias = "finished-at")]
    pub finished_at: DateTime<Utc>,
    /// Bytes stored.
    #[serde(alias = "stored-bytes")]
    pub stored_bytes: u64,
    /// How many of the cluster are there.
    #[serde(default)]
    pub count: usize,
    /// Why its repository cannot be read at present: this is what it held when it was last seen.
    #[serde(default)]
    pub away: Option<String>,
}

/// A restore test in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct RestoreTest {
    /// The backup.
    pub label: String,
    /// When.
    #[serde(alias = "started-at")]
    pub started_at: DateTime<Utc>,
    /// Measured recovery time, seconds.
    #[serde(alias = "total-seconds")]
    pub total_seconds: f64,
    /// Measured recovery point age, seconds.
    #[serde(alias = "recovery-point-age-seconds")]
    pub recovery_point_age_seconds: f64,
    /// Whether everything held.
    pub passed: bool,
    /// What did not, or what was found.
    #[serde(default)]
    pub detail: String,
}

impl From<&RestoreTestRow> for RestoreTest {
    fn from(row: &RestoreTestRow) -> Self {
        Self {
            label: row.label.clone(),
            started_at: row.started_at,
            total_seconds: row.total_seconds,
            recovery_point_age_seconds: row.recovery_point_age_seconds,
            passed: row.passed,
            detail: row.detail.clone(),
        }
    }
}

/// A run at work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Running {
    /// The run.
    pub id: Uuid,
    /// Its job.
    pub job: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Bytes done.
    pub done: u64,
    /// Bytes expected; 0 where unknown.
    pub total: u64,
    /// The step it is at, where it says so.
    #[serde(default)]
    pub what: String,
    /// Where it is in that step, as far as that is known.
    #[serde(default)]
    pub detail: String,
}

impl Running {
    /// What it does, in words.
    pub fn words(&self) -> Words {
        Words { step: self.what.clone(), detail: self.detail.clone() }
    }
}

/// A report to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReportRequest {
    /// Which.
    pub about: ReportAbout,
    /// Keep it, and send it.
    pub mail: bool,
}

/// What a report is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportAbout {
    /// What a server did.
    Performance {
        /// Its cluster.
        cluster: String,
        /// The window.
        window: Span,
        /// The window it stands beside; the one before by default.
        beside: Option<Span>,
    },
    /// How everything stands.
    Health {
        /// Of this cluster; of all without.
        cluster: Option<String>,
        /// Everything, or backups alone.
        about: Scope,
        /// The window whose runs, backups and alerts it lists.
        window: Span,
    },
    /// A disaster-recovery drill.
    Drill {
        /// Of this cluster.
        cluster: String,
    },
}

/// A configured job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct JobInfo {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Cluster.
    pub cluster: Option<String>,
    /// Whether the configuration has it run.
    #[serde(default = "is_enabled")]
    pub enabled: bool,
    /// Schedule.
    pub schedule: Option<String>,
    /// Zone of the schedule.
    #[serde(alias = "time-zone")]
    pub time_zone: String,
    /// Why it does not run on its schedule at present.
    pub paused: Option<String>,
    /// The next time.
    pub next: Option<DateTime<Utc>>,
    /// The last run.
    pub last: Option<Run>,
}

/// What daemons of earlier versions do not say.
fn is_enabled() -> bool {
    true
}

/// The body of requests that change something.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ActionRequest {
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to a started run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Started {
    /// The run.
    pub run: Uuid,
}

/// The answer to what cannot be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Refusal {
    /// Why, and what would work.
    pub error: String,
}

/// What is to be checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckRequest {
    /// The configuration that is meant, absolute.
    pub config: PathBuf,
    /// One cluster; all without.
    pub cluster: Option<String>,
}

/// What came of a check.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckAnswer {
    /// What the command says of it.
    Lines(serde_json::Value),
    /// The daemon works with this configuration, and not with the one that is meant.
    Elsewhere(PathBuf),
}

/// A file to archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PushRequest {
    /// The cluster.
    pub cluster: String,
    /// Its data directory.
    pub data_directory: PathBuf,
    /// The file, absolute.
    pub path: PathBuf,
}
