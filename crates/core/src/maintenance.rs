//! What maintenance did to one object, and what it recommends that a person do.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

crate::words! {
    /// What is done to an object.
    pub enum Action {
        /// Dead rows removed, rows frozen, statistics refreshed.
        Vacuum = "vacuum",
        /// Statistics refreshed.
        Analyze = "analyze",
        /// Built anew.
        Reindex = "reindex",
        /// Removed: what an interrupted reindex left.
        Drop = "drop",
        /// Looked through for damage.
        Check = "check",
    }
}

crate::words! {
    /// What became of it.
    pub enum Ending {
        /// It was done.
        Done = "done",
        /// It was left out, and nothing changed.
        Skipped = "skipped",
        /// The server refused it, or found damage.
        Failed = "failed",
    }
}

/// One object that was worked on, or left out for a reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MaintenanceRecord {
    /// Identity.
    pub id: Uuid,
    /// Database.
    pub database: String,
    /// Table or index, as SQL names it.
    pub object: String,
    /// What was to be done.
    pub action: Action,
    /// What became of it.
    pub result: Ending,
    /// Why it was chosen, left out, or failed.
    pub reason: String,
    /// Bytes before: of a table with its indexes and TOAST, or of an index.
    pub bytes_before: Option<u64>,
    /// Bytes after.
    pub bytes_after: Option<u64>,
    /// Bytes of WAL that the server wrote meanwhile.
    pub wal_bytes: Option<u64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
}

/// All that one run recommends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdviceRecord {
    /// Complete but for what is `unknown`: what the job recommended before and is not among them is not recommended any more.
    pub given: Vec<Recommendation>,
    /// Databases and topics that could not be checked; all topics where none is named. What was recommended stays.
    pub unknown: Vec<(String, Option<String>)>,
}

/// Something a person should decide about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Database.
    pub database: String,
    /// What it is about: `unused-index`, `autovacuum`.
    pub topic: String,
    /// Table or index, as SQL names it.
    pub object: String,
    /// Why.
    pub reason: String,
    /// How much it is about.
    pub figure: f64,
    /// Of what.
    pub unit: String,
    /// The SQL that would do it.
    pub statement: String,
}
