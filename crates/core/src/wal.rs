//! The names of files in a WAL archive (PostgreSQL: `xlog_internal.h`), and which segments a range needs.

use crate::lsn::Lsn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A file that PostgreSQL archives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A whole segment.
    Segment(Segment),
    /// What was written of a segment when its timeline ended.
    Partial(Segment),
    /// `00000002.history`.
    History(u32),
    /// `000000010000000000000002.00000028.backup`; says where a backup made with the low-level interface began.
    Backup(Segment, u32),
}

/// Whether segments can have this size, bytes (PostgreSQL: `IsValidWalSegSize`).
pub const fn is_segment_size(size: u64) -> bool {
    size.is_power_of_two() && size >= 1 << 20 && size <= 1 << 30
}

/// A segment by timeline and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Timeline.
    pub timeline: u32,
    /// The middle eight digits: the high half of its positions.
    pub log: u32,
    /// The last eight digits: its number within that.
    pub number: u32,
}

impl Segment {
    /// The segment that holds a position.
    pub const fn holding(lsn: Lsn, timeline: u32, segment_size: u64) -> Self {
        let per_log = 0x1_0000_0000 / segment_size;
        let number = lsn.0 / segment_size;
        Self { timeline, log: (number / per_log) as u32, number: (number % per_log) as u32 }
    }

    /// Its first position.
    pub const fn start(self, segment_size: u64) -> Lsn {
        Lsn(((self.log as u64) << 32) + self.number as u64 * segment_size)
    }

    /// The segment after it.
    #[must_use]
    pub const fn next(self, segment_size: u64) -> Self {
        Self::holding(Lsn(self.start(segment_size).0 + segment_size), self.timeline, segment_size)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.log, self.number)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// The middle part of a name at [`Lsn::FURTHEST`].
const FURTHEST: u64 = Lsn::FURTHEST.0 >> 32;

/// Segments of the least size under one middle part of their names.
const SMALLEST_PER_LOG: u32 = 1 << 12;

fn segment(text: &str) -> Option<Segment> {
    if text.len() != 24 || !text.is_ascii() {
        return None;
    }
    let segment = Segment { timeline: number(&text[..8])?, log: number(&text[8..16])?, number: number(&text[16..])? };
    // C36.
    (u64::from(segment.log) < FURTHEST && segment.number < SMALLEST_PER_LOG).then_some(segment)
}

impl WalFile {
    /// What a file name says; `None` for one that PostgreSQL does not archive.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(timeline) = name.strip_suffix(".history") {
            return Some(Self::History(number(timeline)?));
        }
        if let Some(name) = name.strip_suffix(".partial") {
            return Some(Self::Partial(segment(name)?));
        }
        if let Some((name, offset)) = name.strip_suffix(".backup").and_then(|name| name.split_once('.')) {
            return Some(Self::Backup(segment(name)?, number(offset)?));
        }
        Some(Self::Segment(segment(name)?))
    }

    /// The timeline in its name.
    pub const fn timeline(&self) -> u32 {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::Backup(segment, _) => segment.timeline,
            Self::History(timeline) => *timeline,
        }
    }

    /// The segment it is, or is about.
    pub const fn segment(&self) -> Option<Segment> {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::Backup(segment, _) => Some(*segment),
            Self::History(_) => None,
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => write!(f, "{timeline:08X}.history"),
            Self::Backup(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

/// One line of a history file: the timeline that ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The parent timeline.
    pub parent: u32,
    /// Where the child branched off.
    pub at: Lsn,
}

/// The ancestors of a timeline, oldest first, as its history file has them. They are older than it, each branched off behind the one
/// before, and the file is checked for that: it may come from anywhere (C36).
///
/// # Errors
/// The line that is none.
pub fn history(timeline: u32, text: &str) -> Result<Vec<Switch>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut switches: Vec<Switch> = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let parent = words.next().and_then(|word| word.parse().ok());
        let at = words.next().and_then(|word| word.parse().ok());
        let (Some(parent), Some(at)) = (parent, at) else {
            return Err(format!("\"{line}\" is not a valid line of a timeline history"));
        };
        let (after, behind) = switches.last().map_or((0, Lsn(0)), |last| (last.parent, last.at));
        if parent <= after || parent >= timeline || at < behind {
            return Err(format!("\"{line}\" does not belong where it is in the history of timeline {timeline}"));
        }
        switches.push(Switch { parent, at });
    }
    Ok(switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_archive() {
        for name in [
            "0000000100000016000000B3",
            "0000000100000016000000B3.partial",
            "00000002.history",
            "000000010000000000000002.00000028.backup",
        ] {
            let parsed = WalFile::parse(name).unwrap();
            assert_eq!(parsed.to_string(), name);
        }
        for name in
            ["", "x", "0000000100000016000000b3", "0000000100000016000000B3.ready", "../../etc/passwd", "2.history"]
        {
            assert_eq!(WalFile::parse(name), None, "{name}");
        }
    }

    #[test]
    fn segments_follow_each_other_over_the_end_of_a_log() {
        let last = Segment { timeline: 3, log: 1, number: 0xFF };
        assert_eq!(last.next(16 << 20), Segment { timeline: 3, log: 2, number: 0 });
        assert_eq!(
            Segment { timeline: 1, log: 0, number: 3 }.next(1 << 30),
            Segment { timeline: 1, log: 1, number: 0 }
        );
        assert_eq!(last.start(16 << 20), Lsn(0x1_FF00_0000));
        assert_eq!(Segment::holding(Lsn(0x1_FF00_0001), 3, 16 << 20), last);
    }

    #[test]
    fn histories() {
        let read =
            history(3, "1\t0/5000098\tno recovery target specified\n\n2\t0/60000A0\tbefore 2026-11-21\n").unwrap();
        assert_eq!(read, [Switch { parent: 1, at: Lsn(0x500_0098) }, Switch { parent: 2, at: Lsn(0x600_00A0) }]);
        for (timeline, text) in [(2, "one 0/1"), (2, "2\t0/1"), (4, "2 0/1\n1 0/2"), (4, "1 0/2\n2 0/1"), (2, "1")] {
            assert!(history(timeline, text).is_err(), "{text}");
        }
    }
}
