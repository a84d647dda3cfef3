//! The time, in one resolution everywhere.

use crate::faults;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use std::sync::LazyLock;

/// The time now, in whole microseconds: what PostgreSQL can store, so that no copy of a time differs from another.
pub fn now() -> DateTime<Utc> {
    (Utc::now() + faults::ahead()).trunc_subsecs(6)
}

/// What the time is by what has passed on this machine since this was first asked in this process, which no setting of the clock
/// changes (C33). `None` where `/proc` does not say.
pub fn by_uptime() -> Option<DateTime<Utc>> {
    static START: LazyLock<Option<Anchor>> = LazyLock::new(|| Some(Anchor { time: Utc::now(), uptime: uptime()? }));
    // A clock that a test moved on is moved on everywhere.
    Some((*START)?.at(uptime()?) + faults::ahead())
}

/// A time, and how long the machine had been up then.
#[derive(Clone, Copy)]
struct Anchor {
    time: DateTime<Utc>,
    uptime: TimeDelta,
}

impl Anchor {
    fn at(self, uptime: TimeDelta) -> DateTime<Utc> {
        self.time + (uptime - self.uptime)
    }
}

/// How long this machine has been up, time asleep included.
fn uptime() -> Option<TimeDelta> {
    parse_uptime(&std::fs::read_to_string("/proc/uptime").ok()?)
}

fn parse_uptime(text: &str) -> Option<TimeDelta> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    Some(
        TimeDelta::try_seconds(seconds.parse().ok()?)?
            + TimeDelta::milliseconds(10 * hundredths.parse::<u8>().ok()? as i64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c33_the_time_by_the_uptime_goes_on_whatever_the_clock_is_set_to() {
        assert_eq!(parse_uptime("350735.47 234388.90\n"), Some(TimeDelta::milliseconds(350_735_470)));
        assert_eq!((parse_uptime(""), parse_uptime("x.y"), parse_uptime("9223372036854775807.0")), (None, None, None));
        let start = Anchor { time: DateTime::UNIX_EPOCH, uptime: TimeDelta::seconds(100) };
        assert_eq!(start.at(TimeDelta::seconds(160)), DateTime::UNIX_EPOCH + TimeDelta::minutes(1));
        let first = by_uptime().unwrap();
        assert!(by_uptime().unwrap() >= first && (now() - first).abs() < TimeDelta::minutes(1));
    }
}
