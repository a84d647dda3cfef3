//! Samples: what grew between two moments, for whom; and how many of them become one for a longer time.
//!
//! A [`Topic`] says what its rows are about (keys) and which values each has; a [`Frame`] holds the rows of one span. Frames of
//! one topic add up: an hour is the sum of its twelve, whatever was kept of each.
//!
//! Invariants: adding frames in any order gives the same; what is not kept by name is in the row [`REST`], so that totals hold.

mod counters;
mod frame;

pub use counters::Counters;
pub use frame::{Frame, Key, REST};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How two values of one row become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// They add up: what a counter of the server grew by.
    Count,
    /// They add up: what a position grew by that no reset takes back. One that went back is another's, and tells nothing.
    Position,
    /// They add up: what was seen at each check, to be divided by the checks.
    Add,
    /// The greater one.
    Most,
    /// The later one: what there is at the end.
    Last,
}

use Merge::{Add, Count, Last, Most, Position};

/// What the rows of a topic are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What a row is about.
    pub keys: &'static [&'static str],
    /// Its values, and how two become one.
    pub values: &'static [(&'static str, Merge)],
    /// By which values the rows are chosen that are kept by name.
    pub ranks: &'static [&'static str],
    /// How many by each.
    pub kept: usize,
    /// Whether what was not there before began from nothing; otherwise it is only known from now on.
    pub fresh: bool,
}

crate::words! {
    /// What is sampled.
    pub enum Topic {
        /// Statements, by pg_stat_statements.
        Statements = "statements",
        /// Tables.
        Tables = "tables",
        /// Indexes.
        Indexes = "indexes",
        /// Databases.
        Databases = "databases",
        /// The server as a whole: WAL, checkpoints, connections.
        Server = "server",
        /// Reads and writes by who does them and what for, by pg_stat_io.
        Io = "io",
        /// What active sessions wait for.
        Waits = "waits",
        /// Databases and their largest tables, bytes.
        Sizes = "sizes",
        /// The machine.
        Host = "host",
    }
}

crate::words! {
    /// For how long a span a frame stands.
    pub enum Span {
        /// As it was sampled.
        Sample = "sample",
        /// An hour of them.
        Hour = "hour",
        /// A day.
        Day = "day",
    }
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Statements,
        Self::Tables,
        Self::Indexes,
        Self::Databases,
        Self::Server,
        Self::Io,
        Self::Waits,
        Self::Sizes,
        Self::Host,
    ];

    /// What its rows are.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Statements => Shape {
                keys: &["database", "user", "query"],
                values: &[
                    ("calls", Count),
                    ("time_ms", Count),
                    ("rows", Count),
                    ("hit", Count),
                    ("read", Count),
                    ("dirtied", Count),
                    ("written", Count),
                    ("temp_read", Count),
                    ("temp_written", Count),
                    ("wal_bytes", Count),
                    ("planning_ms", Count),
                    ("read_ms", Count),
                    ("write_ms", Count),
                ],
                ranks: &["time_ms", "calls", "read", "wal_bytes", "temp_written"],
                kept: 60,
                fresh: true,
            },
            Self::Tables => Shape {
                keys: &["database", "table"],
                values: &[
                    ("seq_scans", Count),
                    ("seq_rows", Count),
                    ("index_scans", Count),
                    ("index_rows", Count),
                    ("inserted", Count),
                    ("updated", Count),
                    ("deleted", Count),
                    ("hot_updated", Count),
                    ("read", Count),
                    ("hit", Count),
                    ("live", Last),
                    ("dead", Last),
                ],
                ranks: &["seq_rows", "index_rows", "inserted", "updated", "deleted", "read"],
                kept: 40,
                fresh: false,
            },
            Self::Indexes => Shape {
                keys: &["database", "table", "index"],
                values: &[("scans", Count), ("rows", Count), ("read", Count), ("hit", Count)],
                ranks: &["scans", "rows", "read"],
                kept: 40,
                fresh: false,
            },
            Self::Databases => Shape {
                keys: &["database"],
                values: &[
                    ("commits", Count),
                    ("rollbacks", Count),
                    ("read", Count),
                    ("hit", Count),
                    ("inserted", Count),
                    ("updated", Count),
                    ("deleted", Count),
                    ("conflicts", Count),
                    ("deadlocks", Count),
                    ("temp_files", Count),
                    ("temp_bytes", Count),
                    ("read_ms", Count),
                    ("write_ms", Count),
                    ("sessions", Count),
                    ("active_ms", Count),
                    ("idle_in_transaction_ms", Count),
                ],
                ranks: &["commits"],
                kept: 200,
                fresh: true,
            },
            Self::Server => Shape {
                keys: &[],
                values: &[
                    ("wal_bytes", Position),
                    ("wal_records", Count),
                    ("wal_full_pages", Count),
                    ("checkpoints_timed", Count),
                    ("checkpoints_requested", Count),
                    ("checkpoint_write_ms", Count),
                    ("checkpoint_sync_ms", Count),
                    ("buffers_checkpoint", Count),
                    ("buffers_clean", Count),
                    ("samples", Add),
                    ("connections", Add),
                    ("active", Add),
                    ("idle_in_transaction", Add),
                    ("waiting_for_locks", Add),
                    ("most_connections", Most),
                    ("most_active", Most),
                    ("most_waiting_for_locks", Most),
                    ("longest_transaction_s", Most),
                    ("max_connections", Last),
                ],
                ranks: &["samples"],
                kept: 1,
                fresh: false,
            },
            Self::Io => Shape {
                keys: &["backend", "object", "context"],
                values: &[
                    ("reads", Count),
                    ("read_ms", Count),
                    ("writes", Count),
                    ("write_ms", Count),
                    ("extends", Count),
                    ("fsyncs", Count),
                    ("hits", Count),
                    ("evictions", Count),
                ],
                ranks: &["reads", "writes", "hits"],
                kept: 40,
                fresh: true,
            },
            Self::Waits => {
                Shape { keys: &["type", "event"], values: &[("seen", Add)], ranks: &["seen"], kept: 40, fresh: true }
            }
            Self::Sizes => Shape {
                keys: &["database", "table"],
                values: &[("bytes", Last)],
                ranks: &["bytes"],
                kept: 200,
                fresh: true,
            },
            Self::Host => Shape {
                keys: &[],
                values: &[
                    ("busy_ticks", Position),
                    ("waiting_ticks", Position),
                    ("stolen_ticks", Position),
                    ("ticks", Position),
                    ("disk_read_bytes", Position),
                    ("disk_written_bytes", Position),
                    ("disk_busy_ms", Position),
                    ("samples", Add),
                    ("memory_used", Add),
                    ("load", Add),
                    ("most_memory_used", Most),
                    ("most_load", Most),
                    ("memory", Last),
                    ("processors", Last),
                    ("disk_bytes", Last),
                    ("disk_free", Last),
                ],
                ranks: &["samples"],
                kept: 1,
                fresh: false,
            },
        }
    }

    /// The place of a value in a row.
    ///
    /// # Panics
    /// Where there is no such value: a slip of the pen.
    pub fn place(self, value: &str) -> usize {
        let found = self.shape().values.iter().position(|(name, _)| *name == value);
        found.unwrap_or_else(|| unreachable!("{self} has no {value}"))
    }
}

/// Every topic with its keys and values, as Markdown.
pub fn reference() -> String {
    let mut page = String::new();
    for topic in Topic::ALL {
        let shape = topic.shape();
        let keys = if shape.keys.is_empty() { "none, there is one row".into() } else { shape.keys.join(", ") };
        page.push_str(&format!("## {topic}\n\nKey: {keys}.\n\n| position | value | |\n| ---: | --- | --- |\n"));
        for (place, (name, merge)) in shape.values.iter().enumerate() {
            let what = match merge {
                Merge::Count | Merge::Position => "",
                Merge::Add => "sum over all samples",
                Merge::Most => "the maximum",
                Merge::Last => "at the end",
            };
            page.push_str(&format!("| {place} | `{name}` | {what} |\n"));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// What was sampled at one moment, since the one before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleRecord {
    /// When the span begins.
    pub at: DateTime<Utc>,
    /// Its length.
    pub seconds: f64,
    /// For how long it stands.
    pub span: Span,
    /// What it is about.
    pub topic: Topic,
    /// The rows.
    pub frame: Frame,
}

/// The words of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryText {
    /// By which pg_stat_statements knows it.
    pub query: String,
    /// Its words, without secrets.
    pub text: String,
}
