//! What statements took, by time, calls, reads, WAL and temporary files, beside the window before.

use super::{Windows, live::Live};
use crate::reports::window::{Row, Window};
use pgbosun_core::{
    human,
    report::{ChartUnit, ReportSection, ReportTable},
    sample::{REST, Topic},
};
use std::collections::BTreeMap;

/// Statements shown of each.
const SHOWN: usize = 10;
/// The share of all from which on a statement is worth a row.
const WORTH: f64 = 0.005;
/// The mean from which on a statement is slow, ms.
const SLOW: f64 = 1.0;
/// What every statement of ours has behind its first word: it stays there in pg_stat_statements, whatever becomes of comments before it.
const OWN: &str = "/* pgbosun */";
/// Letters of a statement shown.
const LETTERS: usize = 160;

/// A ranking: its title, the value, and its unit.
const RANKS: [(&str, &str, ChartUnit); 5] = [
    ("By time", "time_ms", ChartUnit::Milliseconds),
    ("By calls", "calls", ChartUnit::Number),
    ("By blocks read", "read", ChartUnit::Number),
    ("By WAL written", "wal_bytes", ChartUnit::Bytes),
    ("By temporary blocks written", "temp_written", ChartUnit::Number),
];

/// The section.
pub(super) fn section(windows: &Windows, texts: &BTreeMap<String, String>, live: &Live) -> ReportSection {
    let mut section = ReportSection::new("Statements");
    if windows.now.rows(Topic::Statements).next().is_none() {
        section.note = Some(if live.statements {
            "No statement was counted in this window.".into()
        } else {
            "The extension pg_stat_statements is not installed: add it to shared_preload_libraries, restart, and \
             CREATE EXTENSION pg_stat_statements in one database."
                .into()
        });
        return section;
    }
    let total = |value: &'static str| move |window: &Window| Some(window.total(Topic::Statements, value));
    section.figures.push(windows.figure("time in all statements", ChartUnit::Milliseconds, total("time_ms")));
    section.figures.push(windows.figure("calls", ChartUnit::Number, total("calls")));
    section.figures.push(windows.figure("blocks read", ChartUnit::Number, total("read")));
    section.figures.push(windows.figure("WAL written", ChartUnit::Bytes, total("wal_bytes")));
    for (number, (title, value, unit)) in RANKS.into_iter().enumerate() {
        section.tables.extend(ranking(windows, texts, title, value, unit));
        if number == 0 {
            section.tables.extend(slowest(windows, texts));
        }
    }
    section
}

/// A statement in a ranking, or all of ours together.
struct Entry {
    value: f64,
    before: Option<f64>,
    calls: f64,
    time: f64,
    words: String,
}

impl Entry {
    fn mean(&self) -> f64 {
        self.time / self.calls.max(1.0)
    }
}

/// The statements with this value, ours as one, the most first.
fn entries(windows: &Windows, texts: &BTreeMap<String, String>, value: &str) -> Vec<Entry> {
    let before = |row: &Row<'_>| windows.before.of(Topic::Statements, row.key).map(|row| row.get(value));
    let is_own =
        |row: &Row<'_>| row.key.get(2).and_then(|query| texts.get(query)).is_some_and(|text| text.contains(OWN));
    let (own, others): (Vec<_>, Vec<_>) = ranked(&windows.now, value).into_iter().partition(is_own);
    let mut entries: Vec<_> = others
        .iter()
        .map(|row| Entry {
            value: row.get(value),
            before: before(row),
            calls: row.get("calls"),
            time: row.get("time_ms"),
            words: format!("{}: {}", row.key[0], words(texts, row, LETTERS)),
        })
        .collect();
    if !own.is_empty() {
        let sum = |of: &dyn Fn(&Row<'_>) -> f64| own.iter().map(of).sum::<f64>();
        entries.push(Entry {
            value: sum(&|row| row.get(value)),
            before: Some(sum(&|row| before(row).unwrap_or_default())),
            calls: sum(&|row| row.get("calls")),
            time: sum(&|row| row.get("time_ms")),
            words: format!("pgbosun itself, in {}", human::count(own.len(), "statement")),
        });
    }
    entries.sort_by(|a, b| b.value.total_cmp(&a.value));
    entries
}

fn ranking(
    windows: &Windows,
    texts: &BTreeMap<String, String>,
    title: &str,
    value: &str,
    unit: ChartUnit,
) -> Option<ReportTable> {
    let total = windows.now.total(Topic::Statements, value);
    let entries = entries(windows, texts, value);
    let most = entries.first()?.value.max(f64::MIN_POSITIVE);
    let mut table = ReportTable::new(title, &["share", "total", "before", "calls", "mean", "statement"]);
    let worth = |entry: &Entry| total > 0.0 && entry.value >= WORTH * total;
    for entry in entries.into_iter().take(SHOWN).take_while(worth) {
        let cells = [
            format!("{:.0} %", 100.0 * entry.value / total),
            unit.format(entry.value),
            match entry.before {
                _ if windows.before.is_empty() => String::new(),
                Some(before) => unit.format(before),
                None => "new".into(),
            },
            human::number(entry.calls),
            human::milliseconds(entry.mean()),
            entry.words,
        ];
        table.row(cells, Some(entry.value / most));
    }
    Some(table).filter(|table| !table.rows.is_empty())
}

/// The slowest by their mean, however rarely they ran.
fn slowest(windows: &Windows, texts: &BTreeMap<String, String>) -> Option<ReportTable> {
    let mut entries = entries(windows, texts, "time_ms");
    entries.retain(|entry| entry.mean() >= SLOW);
    entries.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
    let most = entries.first()?.mean();
    let mut table = ReportTable::new("By mean time", &["mean", "calls", "total", "statement"]);
    for entry in entries.into_iter().take(SHOWN) {
        let (mean, all) = (entry.mean(), human::milliseconds(entry.time));
        table.row([human::milliseconds(mean), human::number(entry.calls), all, entry.words], Some(mean / most));
    }
    Some(table)
}

/// The statements kept by name, most first.
pub(super) fn ranked<'a>(window: &'a Window, value: &str) -> Vec<Row<'a>> {
    let mut rows: Vec<_> = window
        .rows(Topic::Statements)
        .filter(|row| row.key.first().is_some_and(|key| key != REST) && row.get(value) > 0.0)
        .collect();
    rows.sort_by(|a, b| b.get(value).total_cmp(&a.get(value)));
    rows
}

/// A statement in one line, without the lines of comment it begins with.
fn one_line(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim().is_empty() || line.trim_start().starts_with("--"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The words of a statement, in one line.
pub(super) fn words(texts: &BTreeMap<String, String>, row: &Row<'_>, letters: usize) -> String {
    let query = row.key.get(2).map_or("", String::as_str);
    let text = texts.get(query).map_or_else(|| format!("queryid {query}"), |text| one_line(text));
    if text.chars().count() <= letters { text } else { text.chars().take(letters).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::{OWN, one_line};

    #[test]
    fn a_statement_begins_with_its_first_word() {
        assert_eq!(one_line("-- Rows, as JSON.\n\nselect 1,\n    2 -- two"), "select 1, 2 -- two");
        assert_eq!(one_line("-- nothing else"), "");
    }

    #[test]
    fn statements_say_whose_they_are() {
        // In pg_stat_activity and pg_stat_statements, where reports fold them into one line.
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut unmarked = Vec::new();
        let mut waiting = ["jobs", "backup", "postgres", "history"].map(|name| crates.join(name)).to_vec();
        while let Some(path) = waiting.pop() {
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                let name = path.to_string_lossy().into_owned();
                if path.is_dir() {
                    waiting.push(path);
                } else if name.ends_with(".sql") && !name.contains(".journal.") && !name.contains("/migrations/") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let first =
                        text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"));
                    let word = first.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
                    let is_statement = ["select", "with", "insert", "update", "delete"].contains(&word);
                    if is_statement && !first.is_some_and(|line| line.starts_with(&format!("{word} {OWN}"))) {
                        unmarked.push(name);
                    }
                }
            }
        }
        assert!(unmarked.is_empty(), "{unmarked:?}");
    }
}
