//! WAL positions and the names of WAL segments (PostgreSQL documentation, "WAL Internals").

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A byte position in the WAL, written `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// An exbibyte of WAL: no server gets there, and sums of positions before it stay what they are (C36).
    pub const FURTHEST: Self = Self(1 << 60);

    /// The first position of the segment that holds this one.
    pub const fn segment_start(self, segment_size: u64) -> Self {
        Self(self.0 - self.0 % segment_size)
    }

    /// The file name of the segment that holds this position: timeline, log, segment, eight hex digits each.
    pub fn segment_name(self, timeline: u32, segment_size: u64) -> String {
        let (number, per_log) = (self.0 / segment_size, 0x1_0000_0000 / segment_size);
        format!("{timeline:08X}{:08X}{:08X}", number / per_log, number % per_log)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |t: &str| u32::from_str_radix(t, 16).ok().map(u64::from);
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(part(high)? << 32 | part(low)?)))
            .ok_or_else(|| format!("\"{text}\" is not a WAL position: write it like 16/B374D848"))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_segment_names() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(lsn.segment_name(1, 16 << 20), "0000000100000016000000B3");
        assert_eq!(lsn.segment_name(10, 1 << 30), "0000000A0000001600000002");
        assert_eq!(lsn.segment_start(16 << 20).to_string(), "16/B3000000");
        assert!("16-B3".parse::<Lsn>().is_err());
    }
}
