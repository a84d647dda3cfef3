//! Metrics: values of the moment, for machines that collect them.

use serde::{Deserialize, Serialize};

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What it is, with its unit at the end, in the manner of Prometheus: `database_size_bytes`.
    pub name: String,
    /// What it is about: pairs of a label and its value.
    pub labels: Vec<(String, String)>,
    /// The value, in that unit.
    pub value: f64,
}

impl Metric {
    /// A value of the cluster or host as a whole.
    pub fn new(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), labels: Vec::new(), value }
    }

    /// The same, about one thing.
    #[must_use]
    pub fn of(mut self, label: &str, value: impl Into<String>) -> Self {
        self.labels.push((label.to_owned(), value.into()));
        self
    }
}
