//! What people see: colours, tables, times.

mod table;

pub use table::{Column, aside, table, text, whole};

use crate::{cli::Colour, console, exit::Exit};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{finding::Severity, human, run::RunState};
use std::{
    borrow::Cow,
    io::{BufRead, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
};

static COLOURS: AtomicBool = AtomicBool::new(false);
static COLOURS_ON_STDERR: AtomicBool = AtomicBool::new(false);

/// Decides about colours, once. `NO_COLOR` is honoured where nothing was said.
pub fn set_colour(colour: Colour) {
    let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let decide = |terminal: bool| match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => terminal && allowed,
    };
    COLOURS.store(decide(std::io::stdout().is_terminal()), Ordering::Relaxed);
    COLOURS_ON_STDERR.store(decide(std::io::stderr().is_terminal()), Ordering::Relaxed);
}

/// Whether logs on standard error may have colours.
pub fn colours_on_stderr() -> bool {
    COLOURS_ON_STDERR.load(Ordering::Relaxed)
}

fn painted(code: &str, text: &str) -> String {
    if COLOURS.load(Ordering::Relaxed) { console::painted(code, text) } else { text.to_owned() }
}

/// Bold.
pub fn bold(text: &str) -> String {
    painted("1", text)
}

/// Dim, for what is read second.
pub fn dim(text: &str) -> String {
    painted("2", text)
}

/// Red.
pub fn red(text: &str) -> String {
    painted("1;31", text)
}

/// Green.
pub fn green(text: &str) -> String {
    painted("32", text)
}

/// Yellow.
pub fn yellow(text: &str) -> String {
    painted("33", text)
}

/// A severity in its colour, as wide as the longest.
pub fn severity(severity: Severity) -> String {
    let word = format!("{:<8}", severity.as_str().to_uppercase());
    match severity {
        Severity::Ok => green(&word),
        Severity::Warning => yellow(&word),
        Severity::Unknown => painted("35", &word),
        Severity::Critical => red(&word),
    }
}

/// The state of a run in its colour.
pub fn state(state: RunState) -> String {
    let word = format!("{:<11}", state.as_str());
    match state {
        RunState::Succeeded => green(&word),
        RunState::Queued | RunState::Running => painted("36", &word),
        state if state.is_failure() => red(&word),
        _ => yellow(&word),
    }
}

/// How wide and high the terminal on standard output is; none where there is none.
pub fn terminal() -> Option<(usize, usize)> {
    let stdout = std::io::stdout();
    let (width, height) = stdout.is_terminal().then(|| terminal_size::terminal_size_of(stdout))??;
    (width.0 > 0 && height.0 > 0).then_some((width.0.into(), height.0.into()))
}

/// A text as it fits the terminal: what is longer goes on below, so many columns from the left, and no word is cut. Without a terminal
/// it is one line.
pub fn folded(text: &str, indent: usize) -> Vec<String> {
    let Some((columns, _)) = terminal() else { return vec![text.to_owned()] };
    let below = " ".repeat(indent);
    let options = textwrap::Options::new(columns)
        .subsequent_indent(&below)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

/// Prints a text as it fits the terminal: rows of tables are cut there, and prose goes on below. Without a terminal it is unchanged.
pub fn say_fitted(text: &str) {
    let columns = terminal().map(|(columns, _)| columns);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match columns {
            Some(columns) if line.trim().contains("  ") => say!("{}", console::cut(line, columns)),
            _ => say_below(indent, line),
        }
    }
}

/// Prints a line that goes on below where the terminal is too narrow, so many columns from the left.
pub fn say_below(indent: usize, line: &str) {
    for line in folded(line, indent) {
        say!("{line}");
    }
}

/// A moment on the wall clock of a zone.
pub fn moment(at: DateTime<Utc>, zone: Tz) -> String {
    pgbosun_core::human::moment(at, zone)
}

/// How long ago.
pub fn ago(at: DateTime<Utc>) -> String {
    format!("{} ago", human::span(pgbosun_core::clock::now() - at))
}

/// Prints a value as JSON: by docs/json.schema.json, with keys in snake_case.
///
/// # Errors
/// Those of the serializer.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    console::exact(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Says what was done: in words, or as JSON where that was asked for.
///
/// # Errors
/// Those of the serializer.
pub fn done(as_json: bool, value: &serde_json::Value, words: &str) -> anyhow::Result<()> {
    if as_json {
        return json(value);
    }
    say!("{words}");
    Ok(())
}

/// Asks before something is replaced, removed or lost, which `question` names; where `given` is set the option `flag` has answered yes.
///
/// # Errors
/// Where the answer is not yes, or nobody can be asked.
pub fn confirm(question: &str, given: bool, flag: &str) -> anyhow::Result<()> {
    if given {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Exit::refused(format!("{question}. There is no terminal to ask on: confirm with {flag}")));
    }
    console::ask(format_args!("{question}. Type yes: "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Exit::refused("nothing was changed")) }
}
