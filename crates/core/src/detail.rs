//! What a finding says besides its one line: facts, tables and verbatim text, each as what it is.
//!
//! Invariants: a time stays a time until somebody reads it, in that reader's zone; whatever is in a value, it is a value: nothing is
//! found again in a text by the marks that are in it. What earlier versions wrote, a text, reads as verbatim text.

use crate::human;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The parts, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Detail(Vec<Part>);

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A value with its label.
    Fact {
        /// What it is: "repository".
        label: String,
        /// What it says.
        value: Value,
    },
    /// Rows of values.
    Table {
        /// What the columns are.
        head: Vec<String>,
        /// The rows, each with a value a column.
        rows: Vec<Vec<Value>>,
    },
    /// Lines as they came: of a log, of a program, of SQL.
    Text(String),
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// A moment, told in the zone of whoever reads it.
    Time(DateTime<Utc>),
    /// Words.
    Words(String),
}

/// As JSON has it, beside the other fields of what it belongs to: `detail`, a text in UTC, which earlier versions wrote alone, and `parts`.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    detail: String,
    parts: Option<Vec<Part>>,
}

impl From<Stored> for Detail {
    fn from(stored: Stored) -> Self {
        stored.parts.map_or_else(|| stored.detail.into(), Self)
    }
}

impl From<Detail> for Stored {
    fn from(detail: Detail) -> Self {
        Self { detail: detail.to_string(), parts: Some(detail.0) }
    }
}

impl From<Vec<Part>> for Detail {
    fn from(parts: Vec<Part>) -> Self {
        Self(parts)
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

impl From<&String> for Detail {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<DateTime<Utc>> for Value {
    fn from(at: DateTime<Utc>) -> Self {
        Self::Time(at)
    }
}

impl Value {
    /// Whatever can be said.
    pub fn of(words: impl fmt::Display) -> Self {
        Self::Words(words.to_string())
    }

    /// In words, a time in this zone.
    pub fn words(&self, zone: Tz) -> String {
        match self {
            Self::Time(at) => human::moment(*at, zone),
            Self::Words(words) => words.clone(),
        }
    }

    fn map(&self, words: &dyn Fn(&str) -> String) -> Self {
        match self {
            Self::Time(at) => Self::Time(*at),
            Self::Words(text) => Self::Words(words(text)),
        }
    }
}

impl Part {
    fn lines(&self) -> usize {
        match self {
            Self::Fact { value: Value::Words(words), .. } => words.lines().count().max(1),
            Self::Fact { .. } => 1,
            Self::Table { rows, .. } => rows.len(),
            Self::Text(text) => text.lines().count(),
        }
    }

    /// As text, times in this zone.
    pub fn told(&self, zone: Tz) -> String {
        match self {
            Self::Fact { label, value } => format!("{label}: {}", value.words(zone)),
            Self::Table { head, rows } => columns(head, &cells(rows, zone), usize::MAX),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Detail {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// That something went wrong for this reason.
    pub fn error(reason: impl fmt::Display) -> Self {
        Self::new().fact("error", reason)
    }

    /// With one more fact.
    #[must_use]
    pub fn fact(self, label: impl Into<String>, value: impl fmt::Display) -> Self {
        self.with(label, Value::of(value))
    }

    /// With a moment.
    #[must_use]
    pub fn time(self, label: impl Into<String>, at: DateTime<Utc>) -> Self {
        self.with(label, at.into())
    }

    fn with(mut self, label: impl Into<String>, value: Value) -> Self {
        self.0.push(Part::Fact { label: label.into(), value });
        self
    }

    /// With a table, where it has rows.
    #[must_use]
    pub fn table<const N: usize>(mut self, head: [&str; N], rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
        if !rows.is_empty() {
            self.0.push(Part::Table { head: head.map(str::to_owned).into(), rows });
        }
        self
    }

    /// With lines as they came, where there are any.
    #[must_use]
    pub fn text(mut self, lines: impl Into<String>) -> Self {
        let lines: String = lines.into();
        if !lines.trim().is_empty() {
            self.0.push(Part::Text(lines.trim_end().to_owned()));
        }
        self
    }

    /// With the parts of another after its own.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether it says nothing.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with every text of it changed.
    #[must_use]
    pub fn map(&self, words: impl Fn(&str) -> String) -> Self {
        let part = |part: &Part| match part {
            Part::Fact { label, value } => Part::Fact { label: words(label), value: value.map(&words) },
            Part::Table { head, rows } => Part::Table {
                head: head.iter().map(|name| words(name)).collect(),
                rows: rows.iter().map(|row| row.iter().map(|value| value.map(&words)).collect()).collect(),
            },
            Part::Text(lines) => Part::Text(words(lines)),
        };
        Self(self.0.iter().map(part).collect())
    }

    /// How many lines and rows it has.
    pub fn lines(&self) -> usize {
        self.0.iter().map(Part::lines).sum()
    }

    /// So many lines and rows of it: the first, but of a text the last; what is beyond them is dropped without a mark.
    #[must_use]
    pub fn first(&self, most: usize) -> Self {
        let mut left = most;
        let mut parts = Vec::new();
        for part in &self.0 {
            if left == 0 {
                break;
            }
            parts.push(match part {
                Part::Table { head, rows } => {
                    Part::Table { head: head.clone(), rows: rows.iter().take(left).cloned().collect() }
                }
                // What a log or a program said last is why it ended.
                Part::Text(text) => {
                    let lines: Vec<_> = text.lines().collect();
                    Part::Text(lines[lines.len().saturating_sub(left)..].join("\n"))
                }
                Part::Fact { label, value: Value::Words(words) } => {
                    let words = words.lines().take(left).collect::<Vec<_>>().join("\n");
                    Part::Fact { label: label.clone(), value: Value::Words(words) }
                }
                fact @ Part::Fact { .. } => fact.clone(),
            });
            left = left.saturating_sub(part.lines());
        }
        Self(parts)
    }

    /// Its tables and texts.
    #[must_use]
    pub fn without_facts(&self) -> Self {
        Self(self.0.iter().filter(|part| !matches!(part, Part::Fact { .. })).cloned().collect())
    }

    /// As text, times in this zone: a line a fact and a row, columns one below the other.
    pub fn told(&self, zone: Tz) -> String {
        self.0.iter().map(|part| part.told(zone)).collect::<Vec<_>>().join("\n")
    }
}

/// In UTC.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Tz::UTC))
    }
}

/// The cells of a table in words, times in this zone.
pub fn cells(rows: &[Vec<Value>], zone: Tz) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|value| value.words(zone)).collect()).collect()
}

/// Which columns of a table hold figures in every row: these stand to the right.
pub fn figures(rows: &[Vec<String>]) -> Vec<bool> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_figure = |at: usize| rows.iter().all(|row| row.get(at).is_some_and(|cell| human::is_figure(cell)));
    (0..width).map(is_figure).collect()
}

/// A table as lines, each column as wide as its widest cell, but filled up to so many characters at most.
pub fn columns(head: &[String], rows: &[Vec<String>], widest: usize) -> String {
    let figures = figures(rows);
    let all: Vec<&[String]> = std::iter::once(head).chain(rows.iter().map(Vec::as_slice)).collect();
    let width = |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count().min(widest)).max();
    let widths: Vec<usize> = (0..head.len().max(figures.len())).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &&[String]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            if figures.get(at) == Some(&true) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Detail {
        let at: DateTime<Utc> = "2026-11-21T11:00:00Z".parse().unwrap();
        let rows = [[Value::of(17), Value::of("app: main"), at.into()], [Value::of(4711), Value::of("x"), at.into()]];
        Detail::new()
            .fact("repository", "local: the first")
            .time("since", at)
            .table(["pid", "user", "since"], rows)
            .text("LOG:  a: b\n")
    }

    #[test]
    fn a_detail_is_text_in_the_zone_of_its_reader() {
        let zone = chrono_tz::Europe::Berlin;
        assert_eq!(
            sample().told(zone),
            "repository: local: the first\nsince: 2026-11-21 12:00:00 CET\n \
             pid  user       since\n  17  app: main  2026-11-21 12:00:00 CET\n4711  x          2026-11-21 12:00:00 CET\n\
             LOG:  a: b"
        );
        assert!(sample().to_string().contains("since: 2026-11-21 11:00:00 UTC"));
        assert_eq!(Detail::new().fact("a", 1).map(|text| format!("<{text}>")).to_string(), "<a>: <1>");
    }

    #[test]
    fn what_is_written_reads_the_same_and_an_older_text_is_text() {
        let written = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Detail>(&written).unwrap(), sample());
        assert!(written.contains("\"detail\":\"repository: local: the first\\n"), "{written}");
        let older: Detail = serde_json::from_str("{\"detail\":\"error: x\\nb\"}").unwrap();
        assert_eq!(older, Detail::from("error: x\nb"));
        assert_eq!((sample().lines(), sample().first(3).lines()), (5, 3));
        assert!(sample().first(3).to_string().ends_with("2026-11-21 11:00:00 UTC"));
        assert_eq!(sample().first(9), sample());
        assert!(sample().without_facts().to_string().starts_with(" pid "));
        assert!(Detail::from(" \n").is_empty() && serde_json::from_str::<Detail>("{}").unwrap().is_empty());
    }
}
