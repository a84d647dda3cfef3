//! Alerts: the life of a finding from the run that first saw it to the run that no longer does.

use crate::finding::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

crate::words! {
    /// Where an alert stands.
    pub enum AlertState {
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
    /// What is wrong, one line.
    pub summary: String,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub advice: String,
    /// Figures.
    pub detail: String,
    /// When it was first seen.
    pub opened_at: DateTime<Utc>,
    /// When it was last seen.
    pub seen_at: DateTime<Utc>,
    /// When the group was last told.
    pub notified_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The run that last saw it.
    pub run_id: Option<Uuid>,
}

crate::words! {
    /// What a message tells.
    pub enum Notice {
        /// A new problem.
        Opened = "opened",
        /// It got worse, or better without being over.
        Changed = "changed",
        /// It is still there.
        Reminder = "reminder",
        /// It is over.
        Resolved = "resolved",
        /// Nothing is wrong: a person asked for a test.
        Test = "test",
    }
}
