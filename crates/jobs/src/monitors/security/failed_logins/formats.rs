//! Failed logins in the formats of PostgreSQL's log. Where a record has its SQLSTATE, class 28 tells; where it has not, the
//! English words do.
//!
//! C44: strangers write into the log: names of users and databases are theirs before anybody has logged in. What they put there may garble
//! what is said of their attempt, and never hides that there was one. In csvlog and jsonlog it does not even that: fields are quoted.

mod csvlog;
mod jsonlog;
mod stderr;
#[cfg(test)]
mod tests;

use pgbosun_core::human;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One login that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in the log's own words.
    pub time: String,
    /// As whom.
    pub user: String,
    /// To which database.
    pub database: String,
    /// From where.
    pub address: String,
    /// Why.
    pub message: String,
}

/// The address of a failure of which the log tells none.
pub const NOWHERE: &str = "unknown";

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, user, database, address, message } = self;
        // Names may have line ends, and it is one line.
        let text = format!("{time}  user {user}, database {database}, from {address}: {message}");
        formatter.write_str(&human::line(&text))
    }
}

/// How a server writes its log.
#[derive(Clone, Debug)]
pub enum Format {
    /// A record of comma-separated fields.
    Csv,
    /// A record of JSON a line.
    Json,
    /// Lines that begin with `log_line_prefix`.
    Stderr(Box<stderr::Lines>),
}

/// What was read of some bytes.
#[derive(Debug, Default)]
pub struct Read {
    /// So many of them, from the beginning, are whole records: the rest is still being written.
    pub whole: usize,
    /// The logins that failed.
    pub failures: Vec<Failure>,
    /// Records that are torn, as a full disk leaves them.
    pub torn: u64,
}

impl Format {
    /// What `log_destination`, `log_line_prefix` and `lc_messages` say; the richest of several.
    ///
    /// # Errors
    /// A prefix that is no use, or messages that are not English where nothing else tells what they mean.
    pub fn of(destination: &str, prefix: &str, language: &str) -> Result<Self, String> {
        let destinations: Vec<_> = destination.split(',').map(str::trim).collect();
        if destinations.contains(&"csvlog") {
            Ok(Self::Csv)
        } else if destinations.contains(&"jsonlog") {
            Ok(Self::Json)
        } else if destinations.contains(&"stderr") {
            Ok(Self::Stderr(Box::new(stderr::Lines::new(prefix, language)?)))
        } else {
            Err(format!("log_destination = \"{destination}\" leaves no file to read: add csvlog or stderr"))
        }
    }

    /// What a log that is written so does not tell, and how it would.
    pub fn advice(destination: &str, prefix: &str) -> Option<&'static str> {
        let quotes = ["csvlog", "jsonlog"].iter().any(|format| destination.contains(format));
        let tells = ["%h", "%r"].iter().any(|escape| prefix.contains(escape));
        match (quotes, tells) {
            (true, _) => None,
            (false, false) => Some(
                "the log does not say where failed logins came from: add %h to log_line_prefix, or csvlog to log_destination, \
                 where no name can be taken for another record",
            ),
            (false, true) => Some(
                "names in the log can be taken for other records: add csvlog or jsonlog to log_destination, where they cannot",
            ),
        }
    }

    /// Whether a file of this name is in this format.
    pub fn reads(&self, name: &str) -> bool {
        let unreadable = [".xz", ".bz2"].iter().any(|end| name.ends_with(end));
        let is = |end: &str| name.contains(end);
        !unreadable
            && match self {
                Self::Csv => is(".csv"),
                Self::Json => is(".json"),
                Self::Stderr(_) => !is(".csv") && !is(".json"),
            }
    }

    /// Reads bytes from the beginning of a record.
    pub fn read(&self, bytes: &[u8]) -> Read {
        let lines = || bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        match self {
            Self::Csv => csvlog::read(bytes),
            Self::Json => jsonlog::read(bytes, lines()),
            Self::Stderr(format) => {
                let whole = lines();
                Read { whole, failures: format.failures(&String::from_utf8_lossy(&bytes[..whole])), torn: 0 }
            }
        }
    }
}

fn is_refusal(state: &str) -> bool {
    state == "28000" || state == "28P01"
}

/// The user whom a message names, in the server's own quotes; a name may have quotes of its own.
fn named_user(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("role \"").or_else(|| Some(message.split_once("user \"")?.1))?;
    let end = rest.rfind("\", database \"").or_else(|| rest.rfind('"'))?;
    Some(&rest[..end])
}

/// An address as the server writes it, for people.
fn whence(address: String) -> String {
    if address == "[local]" { "this machine".into() } else { address }
}

/// A failure, with what the message tells where the record itself does not.
fn failure(
    time: Option<String>,
    user: Option<String>,
    database: Option<String>,
    address: Option<String>,
    message: String,
) -> Failure {
    let quoted = |word: &str, end: &str| {
        let rest = message.split_once(&format!("{word} \""))?.1;
        Some(rest.split(end).next()?.to_owned())
    };
    let known = |field: Option<String>| field.filter(|text| !text.is_empty() && text != "[unknown]");
    let unknown = || NOWHERE.to_owned();
    Failure {
        time: time.unwrap_or_default(),
        user: known(user).or_else(|| named_user(&message).map(str::to_owned)).unwrap_or_else(unknown),
        database: known(database).or_else(|| quoted("database", "\"")).unwrap_or_else(unknown),
        // The server writes it before the names.
        address: known(address).or_else(|| quoted("host", "\", user \"")).map(whence).unwrap_or_else(unknown),
        message,
    }
}
