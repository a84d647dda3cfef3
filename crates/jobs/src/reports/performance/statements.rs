//! What statements took, by time, calls, reads, WAL and temporary files, beside the window before.

use super::{Windows, live::Live};
use crate::reports::window::{Row, Window};
use pgbosun_core::{
    human,
    report::{Section, Table, Unit},
    sample::{REST, Topic},
};
use std::collections::BTreeMap;

/// Statements shown of each.
const SHOWN: usize = 10;
/// The share of all from which on a statement is worth a row.
const WORTH: f64 = 0.005;
/// Letters of a statement shown.
const LETTERS: usize = 160;

/// A ranking: its title, the value, and its unit.
const RANKS: [(&str, &str, Unit); 5] = [
    ("By time", "time_ms", Unit::Milliseconds),
    ("By calls", "calls", Unit::Number),
    ("By blocks read", "read", Unit::Number),
    ("By WAL written", "wal_bytes", Unit::Bytes),
    ("By temporary blocks written", "temp_written", Unit::Number),
];

/// The section.
pub(super) fn section(windows: &Windows, texts: &BTreeMap<String, String>, live: &Live) -> Section {
    let mut section = Section::new("Statements");
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
    section.figures.push(windows.figure("time in all statements", Unit::Milliseconds, total("time_ms")));
    section.figures.push(windows.figure("calls", Unit::Number, total("calls")));
    section.figures.push(windows.figure("blocks read", Unit::Number, total("read")));
    section.figures.push(windows.figure("WAL written by them", Unit::Bytes, total("wal_bytes")));
    for (title, value, unit) in RANKS {
        section.tables.extend(ranking(windows, texts, title, value, unit));
    }
    section
}

fn ranking(windows: &Windows, texts: &BTreeMap<String, String>, title: &str, value: &str, unit: Unit) -> Option<Table> {
    let total = windows.now.total(Topic::Statements, value);
    let rows = ranked(&windows.now, value);
    if total <= 0.0 || rows.is_empty() {
        return None;
    }
    let mut table = Table::new(title, &["share", "all", "before", "calls", "mean", "statement"]);
    let most = rows[0].get(value).max(f64::MIN_POSITIVE);
    let worth = |row: &Row<'_>| row.get(value) >= WORTH * total;
    for row in rows.into_iter().take(SHOWN).take_while(worth) {
        let before = windows.before.of(Topic::Statements, row.key).map(|row| row.get(value));
        let cells = [
            format!("{:.0} %", 100.0 * row.get(value) / total),
            unit.tell(row.get(value)),
            match before {
                Some(before) => unit.tell(before),
                None if windows.before.is_empty() => String::new(),
                None => "new".into(),
            },
            human::number(row.get("calls")),
            human::milliseconds(row.get("time_ms") / row.get("calls").max(1.0)),
            format!("{}: {}", row.key[0], words(texts, &row, LETTERS)),
        ];
        table.row(cells, Some(row.get(value) / most));
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
    use super::one_line;

    #[test]
    fn a_statement_begins_with_its_first_word() {
        assert_eq!(one_line("-- Rows, as JSON.\n\nselect 1,\n    2 -- two"), "select 1, 2 -- two");
        assert_eq!(one_line("-- nothing else"), "");
    }
}
