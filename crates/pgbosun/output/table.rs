//! Tables for people: a header, no frame, one line a row.
//!
//! Invariants: what a person copies into the next command (a label, an id, a name) and what tells how something stands is never cut; on a
//! terminal the rest gives way, cut with `…` or, as a column, left out; in a pipe everything is whole.

use super::{bold, dim, terminal};
use crate::console::{cut, width};

/// Columns of the terminal between two columns of a table.
const GAP: usize = 2;
/// As narrow as text gets before columns are left out for it.
const READABLE: usize = 24;
/// As narrow as text gets at all.
const LEAST: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    Aside,
    Text,
}

/// A column: its header, and what becomes of it where the terminal is too narrow.
#[derive(Clone, Copy)]
pub struct Column {
    header: &'static str,
    fit: Fit,
}

/// A column that stays as it is.
pub const fn whole(header: &'static str) -> Column {
    Column { header, fit: Fit::Whole }
}

/// A column that stays as it is or is left out; the last of several goes first.
pub const fn aside(header: &'static str) -> Column {
    Column { header, fit: Fit::Aside }
}

/// A column that is cut.
pub const fn text(header: &'static str) -> Column {
    Column { header, fit: Fit::Text }
}

/// A table, fitted to the terminal where there is one.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    fitted(columns, rows.into_iter().collect(), terminal().map(|(width, _)| width))
}

fn fitted(columns: &[Column], rows: Vec<Vec<String>>, limit: Option<usize>) -> String {
    let natural: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| rows.iter().map(|row| width(&row[at])).chain([width(column.header)]).max().unwrap_or(0))
        .collect();
    let (widths, left_out) = match limit {
        Some(limit) => fit(columns, &natural, limit),
        None => (natural.into_iter().map(Some).collect(), false),
    };
    let header = columns.iter().map(|column| bold(column.header)).collect();
    let mut lines = vec![line(header, &widths)];
    if left_out {
        lines[0] += &dim("  …");
    }
    lines.extend(rows.into_iter().map(|row| line(row, &widths)));
    let lines = lines.into_iter().map(|line| match limit {
        Some(limit) => cut(&line, limit),
        None => line,
    });
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// How wide each column is, none where it is left out, and whether one is.
fn fit(columns: &[Column], natural: &[usize], limit: usize) -> (Vec<Option<usize>>, bool) {
    let asides = columns.iter().filter(|column| column.fit == Fit::Aside).count();
    let fits = |stay: usize, text: usize| {
        let sign = if stay < asides { GAP + 1 } else { 0 };
        let widths = widths(columns, natural, stay, text);
        widths.iter().flatten().map(|width| width + GAP).sum::<usize>() + sign <= limit + GAP
    };
    let stay = (0..=asides).rev().find(|stay| fits(*stay, READABLE)).unwrap_or(0);
    let widest = natural.iter().copied().max().unwrap_or(0);
    let text = (LEAST..=widest).rev().find(|text| fits(stay, *text)).unwrap_or(LEAST);
    (widths(columns, natural, stay, text), stay < asides)
}

/// The widths where the first so many columns stay that may be left out, and text has so much at most.
fn widths(columns: &[Column], natural: &[usize], mut stay: usize, text: usize) -> Vec<Option<usize>> {
    let widths = columns.iter().zip(natural).map(|(column, natural)| match column.fit {
        Fit::Whole => Some(*natural),
        Fit::Text => Some(text.min(*natural)),
        Fit::Aside if stay == 0 => None,
        Fit::Aside => {
            stay -= 1;
            Some(*natural)
        }
    });
    widths.collect()
}

/// A row in these widths, without blanks at its end.
fn line(row: Vec<String>, widths: &[Option<usize>]) -> String {
    let mut line = String::new();
    let mut blanks = 0;
    for (cell, columns) in row.into_iter().zip(widths).filter_map(|(cell, columns)| Some((cell, (*columns)?))) {
        let cell = cut(&cell, columns);
        let wide = width(&cell);
        if wide > 0 {
            line.extend(std::iter::repeat_n(' ', blanks));
            line += &cell;
            blanks = 0;
        }
        blanks += (columns + GAP).saturating_sub(wide);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::painted;

    const COLUMNS: [Column; 6] =
        [whole("BACKUP"), whole("STATE"), aside("KIND"), text("WHAT"), aside("TOOK"), whole("ID")];

    fn rows() -> Vec<Vec<String>> {
        let long = "the repository offsite took nothing for 3 h: the disk is full, and nobody looks at it";
        let row = |label: &str, state: &str, what: &str| {
            let cells = [label, &painted("1;31", state), "incremental", what, &painted("2", "3 min"), "01995c2f"];
            cells.map(str::to_owned).to_vec()
        };
        vec![
            row("20261121T083000Z-full", "succeeded", "12 GiB stored"),
            row("20261121T093000Z-incremental", "failed", long),
        ]
    }

    /// What is seen of a table, and how wide it is at most.
    fn seen(limit: Option<usize>) -> (String, usize) {
        let table = fitted(&COLUMNS, rows(), limit);
        let widest = table.lines().map(width).max().unwrap();
        let plain = table.split('\x1b').map(|part| match part.split_once('m') {
            Some((code, text)) if code.starts_with('[') => text,
            _ => part,
        });
        (plain.collect::<String>(), widest)
    }

    #[test]
    fn labels_states_and_ids_stay_whole_with_colours_at_every_width() {
        for limit in [80, 100, 120, 200] {
            let (table, widest) = seen(Some(limit));
            assert!(widest <= limit, "{widest} > {limit}\n{table}");
            for word in ["20261121T083000Z-full", "20261121T093000Z-incremental", "succeeded", "failed", "01995c2f"] {
                assert!(table.contains(word), "{word} at {limit}\n{table}");
            }
            assert_eq!(table.lines().count(), 3, "{table}");
        }
        insta::assert_snapshot!(seen(Some(80)).0, @r"
        BACKUP                        STATE      WHAT                        ID  …
        20261121T083000Z-full         succeeded  12 GiB stored               01995c2f
        20261121T093000Z-incremental  failed     the repository offsite to…  01995c2f
        ");
        insta::assert_snapshot!(seen(Some(120)).0, @r"
        BACKUP                        STATE      KIND         WHAT                                               TOOK   ID
        20261121T083000Z-full         succeeded  incremental  12 GiB stored                                      3 min  01995c2f
        20261121T093000Z-incremental  failed     incremental  the repository offsite took nothing for 3 h: the…  3 min  01995c2f
        ");
    }

    #[test]
    fn what_terminals_draw_wider_than_it_is_breaks_nothing() {
        let word = "\u{26a0}\u{fe0f}".repeat(30);
        for limit in [None, Some(20), Some(60), Some(80)] {
            let row =
                vec!["label".to_owned(), "failed".into(), "full".into(), word.clone(), "1 s".into(), "01995c2f".into()];
            assert!(fitted(&COLUMNS, vec![row], limit).contains("label"), "{limit:?}");
        }
    }

    #[test]
    fn nothing_is_cut_in_a_pipe() {
        let (table, _) = seen(None);
        assert!(table.contains("the disk is full, and nobody looks at it") && !table.contains('…'), "{table}");
    }
}
