//! What others write, for the fuzz targets of `tests/fuzz`: nothing panics, and what is taken is understood alike a second time.

#![expect(clippy::unwrap_used, reason = "a property that does not hold panics")]

use crate::{
    config::{KnownNames, MailAddress, Patience, Rate, RawValue, Setting},
    human,
    lsn::Lsn,
    name,
    schedule::{Blackout, Cron, Schedule},
    wal,
};
use bytesize::ByteSize;
use chrono::DateTime;
use std::time::Duration;

/// Cron expressions and blackout windows.
pub fn cron(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Schedule>();
    let _ = text.parse::<Blackout>();
    let Ok(cron) = text.parse::<Cron>() else { return };
    let mut at = DateTime::UNIX_EPOCH.naive_utc();
    for _ in 0..3 {
        match cron.next_naive(at) {
            Some(next) => {
                assert!(next > at, "{text}: {next} after {at}");
                at = next;
            }
            None => return,
        }
    }
}

/// Sizes, rates, durations, positions, names of files of WAL and of anything else, histories of timelines.
pub fn human(data: &[u8]) {
    // No name of a file has a zero in it.
    if !data.contains(&0) {
        assert_eq!(name::from_text(&name::to_text(data)), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (value, known) = (RawValue::from(text), KnownNames::default());
    let _ = Rate::read(&value, &known);
    let _ = Patience::read(&value, &known);
    let _ = MailAddress::read(&value, &known);
    if let Ok(size) = ByteSize::read(&value, &known) {
        human::size(size.as_u64());
    }
    if let Ok(time) = Duration::read(&value, &known) {
        human::duration(time);
    }
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
    }
    if let Some(file) = wal::WalFile::parse(text) {
        assert_eq!(wal::WalFile::parse(&file.to_string()), Some(file));
    }
    let _ = wal::history(7, text);
    human::line(text);
    human::plain(text);
}

#[cfg(test)]
mod tests {
    #[test]
    fn cron() {
        pgbosun_seeds::run("cron", super::cron);
    }

    #[test]
    fn human() {
        pgbosun_seeds::run("human", super::human);
    }
}
