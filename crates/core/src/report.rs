//! What a report says, before anybody has given it a form: verdict, sections with figures, tables and charts.
//!
//! Invariant: values are words already, in the units people read; what a chart or a bar shows is in a table or figure too.

use crate::finding::Severity;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

crate::words! {
    /// What a report is about.
    pub enum ReportKind {
        /// What a server did in a window of time.
        Performance = "performance",
        /// How everything stands.
        Health = "health",
        /// How backups stand.
        Backups = "backups",
        /// A disaster-recovery drill.
        Drill = "drill",
    }
}

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Identity.
    pub id: Uuid,
    /// What it is about.
    pub kind: ReportKind,
    /// `Performance of main`.
    pub title: String,
    /// The cluster, where it is about one.
    pub cluster: Option<String>,
    /// Name of the installation.
    pub instance: String,
    /// The window it is about.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// The zone in which times are told.
    pub zone: Tz,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// What changed and what to do, the worst first, in a few lines.
    pub verdict: Vec<VerdictLine>,
    /// The rest.
    pub sections: Vec<ReportSection>,
}

impl Report {
    /// The worst line of its verdict.
    pub fn severity(&self) -> Severity {
        self.verdict.iter().map(|line| line.severity).max().unwrap_or(Severity::Ok)
    }

    /// The name of its files: `20261122T060000Z-3fa2-performance-main`. Two that are made in the same second differ by chance.
    pub fn file_stem(&self) -> String {
        let cluster = self.cluster.as_ref().map_or_else(String::new, |cluster| format!("-{cluster}"));
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = format!("{}{cluster}", self.kind).chars().map(safe).collect();
        let id = self.id.simple().to_string();
        format!("{}-{}-{name}", self.made_at.format("%Y%m%dT%H%M%SZ"), &id[28..])
    }

    /// The window as people read it.
    pub fn window(&self) -> String {
        let told = |at: DateTime<Utc>| at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M").to_string();
        format!("{} to {} {}", told(self.from), told(self.to), self.to.with_timezone(&self.zone).format("%Z"))
    }
}

/// A line of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictLine {
    /// How bad.
    pub severity: Severity,
    /// What, and what to do.
    pub text: String,
}

impl VerdictLine {
    /// A line.
    pub fn new(severity: Severity, text: impl Into<String>) -> Self {
        Self { severity, text: text.into() }
    }
}

/// A section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportSection {
    /// Its heading.
    pub title: String,
    /// What is to be known about it, such as why something is missing.
    pub note: Option<String>,
    /// Single figures.
    pub figures: Vec<KeyFigure>,
    /// Tables.
    pub tables: Vec<ReportTable>,
    /// Charts.
    pub charts: Vec<Chart>,
}

impl ReportSection {
    /// One that holds nothing yet.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }
}

/// A figure beside what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFigure {
    /// What.
    pub label: String,
    /// Now.
    pub value: String,
    /// In the window before, and a week ago, where they are known.
    pub before: Option<String>,
    /// A week ago.
    pub week: Option<String>,
    /// Whether somebody should look.
    pub severity: Severity,
}

impl KeyFigure {
    /// One that stands by itself.
    pub fn new(label: &str, value: impl Into<String>) -> Self {
        Self { label: label.to_owned(), value: value.into(), before: None, week: None, severity: Severity::Ok }
    }

    /// As bad as this.
    pub fn as_bad_as(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportTable {
    /// What it shows.
    pub title: String,
    /// Heads of its columns.
    pub head: Vec<String>,
    /// Its rows.
    pub rows: Vec<ReportRow>,
}

/// A row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Its cells.
    pub cells: Vec<String>,
    /// The length of its bar, from 0 to 1, where it has one.
    pub bar: Option<f64>,
}

impl ReportTable {
    /// One without rows.
    pub fn new(title: &str, head: &[&str]) -> Self {
        Self { title: title.to_owned(), head: head.iter().map(|&head| head.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>, bar: Option<f64>) {
        self.rows.push(ReportRow { cells: cells.into_iter().map(Into::into).collect(), bar });
    }
}

/// A chart of values over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Its name, of small letters and hyphens.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Of what its values are.
    pub unit: ChartUnit,
    /// Its lines; the first is what the report is about.
    pub series: Vec<ChartSeries>,
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChartSeries {
    /// What it is.
    pub name: String,
    /// Times and values.
    pub points: Vec<(DateTime<Utc>, f64)>,
}

crate::words! {
    /// Of what values are.
    pub enum ChartUnit {
        /// A number.
        Number = "number",
        /// Bytes.
        Bytes = "bytes",
        /// Percent.
        Percent = "percent",
        /// Milliseconds.
        Milliseconds = "ms",
    }
}

impl ChartUnit {
    /// A value as people read it.
    pub fn format(self, value: f64) -> String {
        match self {
            Self::Bytes => crate::human::size(value.max(0.0) as u64),
            Self::Percent => format!("{value:.1} %"),
            Self::Milliseconds => crate::human::milliseconds(value),
            Self::Number => crate::human::number(value),
        }
    }
}
