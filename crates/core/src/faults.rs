//! Fault points: named places where a test makes the program misbehave. All of them are in this list.
//!
//! `PGBOSUN_FAULT=stall-scheduler` arms one, `PGBOSUN_FAULT=object-written@3` the third time one is reached. The clock is as
//! many seconds ahead as the file named by `PGBOSUN_CLOCK` says. Nothing else reads these variables, and nothing arms
//! anything by itself.

use chrono::TimeDelta;
use std::{
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The scheduler stops moving, ten seconds after its start.
pub const STALL_SCHEDULER: &str = "stall-scheduler";
/// The delivery of history stops moving, ten seconds after its start.
pub const STALL_DELIVERY: &str = "stall-delivery";
/// An object of a local repository has its temporary file.
pub const OBJECT_CREATED: &str = "object-created";
/// Its bytes are durable, under the temporary name.
pub const OBJECT_WRITTEN: &str = "object-written";
/// It has its name.
pub const OBJECT_STORED: &str = "object-stored";
/// An object was removed.
pub const OBJECT_REMOVED: &str = "object-removed";
/// A volume was unpacked into the target of a restore.
pub const VOLUME_UNPACKED: &str = "volume-unpacked";
/// Everything of a restore is durable but `pg_control`.
pub const BEFORE_CONTROL: &str = "before-control";
/// A server has taken a message, and the journal does not know of it yet.
pub const MESSAGE_TAKEN: &str = "message-taken";
/// A fetched file lies beside where PostgreSQL wants it.
pub const FILE_FETCHED: &str = "file-fetched";

static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
    let armed = std::env::var("PGBOSUN_FAULT").ok()?;
    let (point, turn) = armed.split_once('@').unwrap_or((&armed, "1"));
    Some((point.to_owned(), turn.parse().ok()?))
});
static REACHED: AtomicU64 = AtomicU64::new(0);

static CLOCK: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("PGBOSUN_CLOCK").map(PathBuf::from));

/// How far the clock of the tests is ahead.
pub fn ahead() -> TimeDelta {
    let Some(file) = &*CLOCK else { return TimeDelta::zero() };
    let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    TimeDelta::seconds(seconds.unwrap_or(0))
}

/// Whether this point is armed.
pub fn armed(point: &str) -> bool {
    ARMED.as_ref().is_some_and(|(armed, _)| armed == point)
}

/// Dies here, without any clean-up, where this point is armed and its turn has come.
pub fn die(point: &str) {
    let Some((armed, turn)) = &*ARMED else { return };
    if armed == point && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *turn {
        eprintln!("fault point {point}: this process dies now");
        std::process::abort();
    }
}
