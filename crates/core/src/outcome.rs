//! What a job gives back. A job never writes history; the runner's journal writer does, from this.

use crate::{
    clock,
    config::GroupName,
    finding::Finding,
    lsn::Lsn,
    maintenance::{AdviceRecord, MaintenanceRecord},
    metric::Metric,
    report::Report,
    sample::{QueryText, SampleRecord},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The result of one successful run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// One line for people.
    pub summary: String,
    /// What is wrong, complete: an open alert of this job that is not among them resolves.
    pub findings: Vec<Finding>,
    /// Values of the moment, for machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Facts for history.
    pub records: Vec<Record>,
    /// What the next run of this job needs to know, if it changed.
    pub state: Option<serde_json::Value>,
    /// What it reports, to be kept and sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Issue>,
    /// Why the run failed all the same: what it brought is kept, and it is not repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A report, and what becomes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Issue {
    /// What it says.
    pub report: Report,
    /// The groups that get it by mail.
    pub groups: Vec<String>,
    /// How long its files are kept.
    pub keep: std::time::Duration,
}

impl Issue {
    /// A report to some groups.
    pub fn new(report: Report, groups: &[GroupName], keep: std::time::Duration) -> Self {
        Self { report, groups: groups.iter().map(|group| group.0.clone()).collect(), keep }
    }
}

/// A fact for history beside the run itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A backup was taken.
    Backup(BackupRecord),
    /// A backup was verified or removed: its state changed.
    BackupState(BackupStateRecord),
    /// A restore test was made.
    RestoreTest(RestoreTestRecord),
    /// Something was changed, for the audit log.
    Audit(AuditRecord),
    /// Maintenance worked on an object, or left it out.
    Maintenance(MaintenanceRecord),
    /// What a job recommends.
    Advice(AdviceRecord),
    /// What a server did for a while.
    Sample(SampleRecord),
    /// The words of a statement.
    Query(QueryText),
    /// Counters as they stand, for the next sample.
    Counters(Vec<u8>),
}

crate::words! {
    /// What is known of a backup.
    pub enum BackupState {
        /// Complete and listed.
        Complete = "complete",
        /// Complete, and a verification found nothing wrong.
        Verified = "verified",
        /// The server reported page checksum failures, or verification failed.
        Suspect = "suspect",
        /// Removed by retention or by hand.
        Removed = "removed",
    }
}

impl BackupState {
    /// Whether one may be restored, as far as is known.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Complete | Self::Verified)
    }
}

/// A backup as history keeps it; the repository has the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Name in the repository.
    pub label: String,
    /// Cluster.
    pub cluster: String,
    /// Repository it lies in.
    pub repository: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// The backup an incremental one builds upon.
    pub parent: Option<String>,
    /// What is known of it.
    pub state: BackupState,
    /// System identifier of the cluster.
    pub system_id: String,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// First WAL position needed.
    pub start_lsn: Lsn,
    /// Consistent from here.
    pub stop_lsn: Lsn,
    /// Timeline of the stop position.
    pub timeline: u32,
    /// Bytes read from the server.
    pub bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
}

/// A change of what is known of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupStateRecord {
    /// Name in the repository.
    pub label: String,
    /// Cluster.
    pub cluster: String,
    /// Repository it lies in.
    pub repository: String,
    /// What is known now.
    pub state: BackupState,
}

/// What was changed, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: DateTime<Utc>,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// Why, or how.
    pub detail: String,
    /// What came of it.
    pub outcome: String,
}

impl AuditRecord {
    /// Something done now, of which it is not known yet what came of it.
    pub fn new(action: impl Into<String>, object: impl Into<String>, detail: impl Into<String>) -> Self {
        let (action, object, detail) = (action.into(), object.into(), detail.into());
        Self { at: clock::now(), action, object, detail, outcome: String::new() }
    }

    /// What came of it, now.
    #[must_use]
    pub fn came(self, outcome: impl Into<String>) -> Self {
        Self { at: clock::now(), outcome: outcome.into(), ..self }
    }
}

/// A measured restore.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestoreTestRecord {
    /// Identity.
    pub id: Uuid,
    /// Cluster.
    pub cluster: String,
    /// Repository it was restored from.
    pub repository: String,
    /// The backup that was restored.
    pub label: String,
    /// When the test began.
    pub started_at: DateTime<Utc>,
    /// Begin to a checked server: the measured recovery time (RTO), seconds.
    pub total_seconds: f64,
    /// How far it was to recover.
    pub target: String,
    /// The newest transaction that was recovered.
    pub recovered_to: DateTime<Utc>,
    /// Choosing the backup and checking that the WAL reaches, seconds.
    pub find_seconds: f64,
    /// Fetching and unpacking, seconds.
    pub restore_seconds: f64,
    /// Server start to consistent state, seconds.
    pub recovery_seconds: f64,
    /// Checks, seconds.
    pub check_seconds: f64,
    /// Whether one table could be dumped out of the restored server, where that was asked for.
    pub extracted: Option<bool>,
    /// How long that took, seconds.
    pub extract_seconds: Option<f64>,
    /// Age of the recovered state when the test began: the measured recovery point (RPO), seconds.
    pub recovery_point_age_seconds: f64,
    /// Databases, tables and rows found.
    pub databases: u64,
    /// Ordinary tables counted.
    pub tables: u64,
    /// Rows counted in them.
    pub rows: u64,
    /// Whether everything held.
    pub passed: bool,
    /// What did not, or what was found.
    pub detail: String,
}
