//! Findings: what a job saw that a person should know. A finding is a fact of one run; an alert is its life.

use crate::detail::Detail;
use serde::{Deserialize, Serialize};

crate::words! {
    /// How bad it is, from best to worst.
    pub enum Severity {
        /// Nothing is wrong.
        Ok = "ok",
        /// Needs attention soon.
        Warning = "warning",
        /// The check itself could not be made: nobody knows.
        Unknown = "unknown",
        /// Needs attention now.
        Critical = "critical",
    }
}

impl Severity {
    /// The exit code of a monitoring plugin: 0, 1, 2, and 3 for unknown.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

crate::words! {
    /// How far a problem reaches. What it explains is not told while it is there, and it is told at the first check.
    pub enum Reach {
        /// Itself.
        Object = "object",
        /// All that needs a connection to its cluster: the server is down.
        Cluster = "cluster",
        /// All that is on the machine of its object's name: the machine is down.
        Host = "host",
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about, stable from run to run: `connection`, `/var/lib/postgresql`.
    pub object: String,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, in one line without the cluster: "backup is 27 h old (limit 25 h)".
    pub summary: String,
    /// What it means for the user, in one sentence.
    pub meaning: String,
    /// What to do, in one or two sentences.
    pub advice: String,
    /// Figures and lines for whoever looks closer; may be empty.
    #[serde(flatten)]
    pub detail: Detail,
    /// How far it reaches.
    pub reach: Reach,
}

impl Finding {
    /// What is wrong, with what, and how bad it is.
    pub fn new(severity: Severity, object: impl Into<String>, summary: impl Into<String>) -> Self {
        let (object, summary) = (object.into(), summary.into());
        let (meaning, advice, detail) = (String::new(), String::new(), Detail::new());
        Self { object, severity, summary, meaning, advice, detail, reach: Reach::Object }
    }

    /// Explains what is wrong with this much besides.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// What it means for the user.
    #[must_use]
    pub fn meaning(self, meaning: impl Into<String>) -> Self {
        Self { meaning: meaning.into(), ..self }
    }

    /// What to do.
    #[must_use]
    pub fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), ..self }
    }

    /// Figures and lines for whoever looks closer; a text is taken as it is.
    #[must_use]
    pub fn detail(self, detail: impl Into<Detail>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}
