//! Sizes, durations and errors as people read them.

use crate::unit;
use std::{borrow::Cow, io, path::Path, time::Duration};

/// `1.5 GiB`, `312 MiB`, `0 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `27 h`, `3 min 20 s`, `4.2 s`, `12 d`: two units at most, and no more precision than is of use.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |big: u64, small: u64, names: [&str; 2]| {
        if small == 0 { format!("{big} {}", names[0]) } else { format!("{big} {} {small} {}", names[0], names[1]) }
    };
    match seconds {
        0 if duration.subsec_millis() < 100 => format!("{} ms", duration.subsec_millis()),
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, seconds % 60, ["min", "s"]),
        3_600..172_800 => pair(seconds / 3_600, seconds % 3_600 / 60, ["h", "min"]),
        _ => pair(seconds / 86_400, seconds % 86_400 / 3_600, ["d", "h"]),
    }
}

/// The same for a signed span; a negative one counts as none.
pub fn span(span: chrono::Duration) -> String {
    duration(span.to_std().unwrap_or_default())
}

/// A time as people in this zone read it: `2026-11-21 12:00:00 CET`.
pub fn moment(at: chrono::DateTime<chrono::Utc>, zone: chrono_tz::Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Whether a text is a figure, with or without its unit: "27", "-1.5 GiB", "45 %", "6 min 40 s". In a table such stand to the right.
pub fn is_figure(text: &str) -> bool {
    const UNITS: [&str; 23] = [
        "%", "B", "KiB", "MiB", "GiB", "TiB", "PiB", "kB", "MB", "GB", "TB", "ns", "µs", "ms", "s", "min", "h", "d",
        "million", "k", "M", "G", "rows",
    ];
    let is_number = |word: &str| {
        let word = word.strip_prefix(['-', '+']).unwrap_or(word);
        let word = word.strip_suffix("/s").or_else(|| word.strip_suffix('%')).unwrap_or(word);
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
    };
    let words = text.split_whitespace().enumerate();
    let mut all = words.map(|(at, word)| match at % 2 {
        0 => is_number(word),
        _ => UNITS.contains(&word.strip_suffix("/s").filter(|unit| !unit.is_empty()).unwrap_or(word)),
    });
    !text.trim().is_empty() && all.all(|fits| fits)
}

/// `1 failed login`, `3 failed logins`.
pub fn count(count: impl TryInto<u128>, what: &str) -> String {
    let count: u128 = count.try_into().unwrap_or_default();
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `12`, `1 234`, `56.7 k`, `8.9 M`: as many digits as are of use.
pub fn number(value: f64) -> String {
    const UNITS: [&str; 4] = ["", " k", " M", " G"];
    let (mut left, mut unit) = (value, 0);
    while left.abs() >= 10_000.0 && unit + 1 < UNITS.len() {
        left /= 1000.0;
        unit += 1;
    }
    let digits = if left.fract() == 0.0 || left.abs() >= 100.0 { 0 } else { 1 + usize::from(left.abs() < 1.0) };
    format!("{left:.digits$}{}", UNITS[unit])
}

/// `0.42 ms`, `123 ms`, `4.2 s`, `3 min 20 s`.
pub fn milliseconds(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2} ms"),
        ..1000.0 => format!("{value:.0} ms"),
        _ => duration(Duration::from_secs_f64((value / 1000.0).min(1e15))),
    }
}

/// Text of others for a terminal, a log or a mail (C44): what would move a cursor, change a title or turn the direction of writing is
/// written as Rust escapes it. Ends of lines and tabulators stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hostile(c) && c != '\n' && c != '\t')
}

/// The same in one line: a name with line ends makes no lines of its own.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hostile)
}

/// Control characters, ends of lines and paragraphs, what Unicode has to turn the direction of text (UAX #9), and what has no width: two
/// names that look the same are not the same name.
fn is_hostile(c: char) -> bool {
    let has_no_width = matches!(
        c,
        '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    c.is_control()
        || has_no_width
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_hostile: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hostile(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// The most bytes of a cause that are told: it may be a server's own words.
const WORDS: usize = 8 << 10;

/// An error and its causes in one line, each cause once; where the unit is what keeps us from writing, with what to do about it. Whatever
/// a server or a repository put into them is text and no more.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    chain_under(error, unit::forbids_writing)
}

fn chain_under(error: &(dyn std::error::Error + 'static), unit: impl Fn(&Path) -> Option<&'static str>) -> String {
    let mut text = error.to_string();
    let is_read_only = |error: &(dyn std::error::Error + 'static)| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    };
    let mut hint = is_read_only(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let mut words = cause.to_string();
        // What answers in a server's place may say as much as it likes.
        if words.len() > WORDS {
            let end = (0..=WORDS).rev().find(|end| words.is_char_boundary(*end)).unwrap_or_default();
            words.truncate(end);
            words.push('…');
        }
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        hint |= is_read_only(cause);
        next = cause.source();
    }
    // A disk that takes no writes is no matter of the unit: the path that is named tells them apart.
    if let Some(why) = path_in(&text).filter(|_| hint).and_then(unit) {
        text.push_str(": ");
        text.push_str(why);
    }
    plain(&without_numbers(&text.replace(SQLX_IO, ""))).into_owned()
}

/// How sqlx begins to tell of an error of the operating system, which says more by itself.
const SQLX_IO: &str = "error communicating with database: ";

/// A text without the numbers that Rust adds to the words of the operating system: ` (os error 2)`.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0 && part[*end..].starts_with(')'));
        match end {
            Some(end) => shown.push_str(&part[end + 1..]),
            None => shown.extend([" (os error ", part]),
        }
    }
    shown
}

/// The first path that a message names, as in "create /srv/a b/c: Read-only file system".
fn path_in(text: &str) -> Option<&Path> {
    let path = text.split(": ").find_map(|part| {
        let begin = if part.starts_with('/') { 0 } else { part.find(" /")? + 1 };
        Some(&part[begin..])
    });
    path.map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_system_come_without_its_numbers() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(chain(&error), "No such file or directory");
        assert_eq!(without_numbers("a (os error 13): b (os error x) (os error 2)"), "a: b (os error x)");
    }

    #[test]
    fn figures_are_told_from_words() {
        for figure in ["27", "-1.5 GiB", "45 %", "99%", "6 min 40 s", "1,234", "12 MiB/s", "3/s", "120 million"] {
            assert!(is_figure(figure), "{figure}");
        }
        for word in
            ["", "2026-11-21 12:00:00 CET", "main", "17 apples", "10.0.0.1:5432", "-", "20261121T083000Z-ab12cd", "s 3"]
        {
            assert!(!is_figure(word), "{word}");
        }
    }

    #[test]
    fn c44_what_a_stranger_wrote_does_not_move_a_cursor() {
        let error = std::io::Error::other("look at \u{1b}]0;title\u{7}\u{1b}[2J\r\u{9b}1m this\nand\tthat");
        assert_eq!(chain(&error), "look at \\u{1b}]0;title\\u{7}\\u{1b}[2J\\r\\u{9b}1m this\nand\tthat");
        assert!(matches!(plain("plain: ü 名前 🐘"), Cow::Borrowed(_)));
        assert_eq!(plain("pay\u{200b}roll \u{feff}\u{ad}x"), "pay\\u{200b}roll \\u{feff}\\u{ad}x");
        assert_eq!(line("a\nOK \u{202e}all is well"), "a\\nOK \\u{202e}all is well");
    }

    #[test]
    fn what_the_unit_does_not_let_us_write_is_told_with_its_directive() {
        let read_only = || io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "create /srv/a b: Read-only file system");
        let under_a_unit = |path: &Path| (path == Path::new("/srv/a b")).then_some(unit::READ_ONLY);
        assert!(chain_under(&read_only(), under_a_unit).ends_with(unit::READ_ONLY));
        assert!(!chain_under(&read_only(), |_| None).contains("ReadWritePaths"));
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(!chain_under(&other, under_a_unit).contains("ReadWritePaths"));
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(312 << 20), "312 MiB");
        assert_eq!(duration(Duration::from_millis(42)), "42 ms");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(27 * 3600)), "27 h");
        assert_eq!(duration(Duration::from_secs(90 * 86_400)), "90 d");
        assert_eq!(
            [0.0, 0.25, 12.5, 1234.0, 56_700.0, 8.9e6].map(number),
            ["0", "0.25", "12.5", "1234", "56.7 k", "8900 k"]
        );
        assert_eq!([0.42, 123.4, 4200.0].map(milliseconds), ["0.42 ms", "123 ms", "4.2 s"]);
    }
}
