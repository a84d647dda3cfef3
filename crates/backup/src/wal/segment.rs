//! C5: what a segment says of itself (PostgreSQL: `xlog_internal.h`, `XLogLongPageHeaderData`).

use crate::Error;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::Path,
};

/// The header of a segment's first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tells PostgreSQL's versions apart.
    pub magic: u16,
    /// The timeline it was written on; on the first segment after a promotion an ancestor's.
    pub timeline: u32,
    /// Position of its first byte.
    pub address: Lsn,
    /// System identifier.
    pub system_id: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
}

/// Bytes of the header.
pub(crate) const LONG_HEADER: usize = 40;
const LONG_FLAG: u16 = 0x0002;

pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Header {
    /// Reads the header at the beginning of a segment; `None` where there is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let field = |from: usize, to: usize| bytes.get(from..to).map(number);
        let (magic, info) = (field(0, 2)? as u16, field(2, 4)? as u16);
        // 0xD110 is PostgreSQL 15; each version counts on.
        (bytes.len() >= LONG_HEADER && magic >> 8 == 0xD1 && info & LONG_FLAG != 0).then_some(())?;
        let address = Lsn(field(8, 16)?);
        (address < Lsn::FURTHEST).then_some(())?;
        Some(Self {
            magic,
            timeline: field(4, 8)? as u32,
            address,
            system_id: field(24, 32)?,
            segment_size: field(32, 36)?,
        })
    }

    /// The header of a file; `None` where it has none, or cannot be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        let mut bytes = [0; LONG_HEADER];
        fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
        Self::read(&bytes)
    }

    /// What is wrong with a segment of this header under this name, of this cluster.
    pub fn fault(&self, name: Segment, system_id: &str) -> Option<String> {
        if self.system_id.to_string() != system_id {
            return Some(format!(
                "it belongs to system identifier {}, but the cluster's is {system_id}",
                self.system_id
            ));
        }
        if self.segment_size == 0 || name.start(self.segment_size) != self.address {
            return Some(format!("it begins at {}, which does not match its name", self.address));
        }
        if self.timeline > name.timeline {
            return Some(format!(
                "it was written on timeline {}, which is later than the one in its name",
                self.timeline
            ));
        }
        None
    }
}

/// Checks a file that is to be archived or was fetched, by its beginning and its size: header, size and name must agree
/// (C5).
///
/// # Errors
/// What does not.
pub fn check(file: &WalFile, beginning: &[u8], size: u64, system_id: &str) -> Result<(), String> {
    let (WalFile::Segment(segment) | WalFile::Partial(segment)) = file else {
        return if size == 0 { Err("it is empty".into()) } else { Ok(()) };
    };
    let header = Header::read(beginning).ok_or("it does not begin with the header of a WAL segment")?;
    if let Some(fault) = header.fault(*segment, system_id) {
        return Err(fault);
    }
    if size != header.segment_size {
        return Err(format!("it has {size} bytes, but a segment has {}", header.segment_size));
    }
    Ok(())
}

/// The same for a file of this machine.
///
/// # Errors
/// What does not agree, or cannot be read.
pub fn check_file(file: &WalFile, path: &Path, system_id: &str) -> Result<(), String> {
    let unread = |error: std::io::Error| error.to_string();
    let opened = fs::File::open(path).map_err(unread)?;
    let size = opened.metadata().map_err(unread)?.len();
    let mut beginning = Vec::new();
    opened.take(LONG_HEADER as u64).read_to_end(&mut beginning).map_err(unread)?;
    check(file, &beginning, size, system_id)
}

/// The system identifier in a data directory's `pg_control`: its first eight bytes. Where that is lost, what its `pg_wal` says.
///
/// # Errors
/// Where it cannot be read.
pub fn system_identifier(data_directory: &Path) -> Result<String, Error> {
    let path = data_directory.join("global/pg_control");
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let left = system_identifier_of_wal(&data_directory.join("pg_wal"));
            return left.ok_or_else(|| Error::file("read", &path)(error));
        }
        read => read.map_err(Error::file("read", &path))?,
    };
    match bytes.get(..8) {
        Some(identifier) => Ok(number(identifier).to_string()),
        None => Err(Error::Refused(format!("{} is too short to be a control file", path.display()))),
    }
}

fn system_identifier_of_wal(directory: &Path) -> Option<String> {
    let segments = fs::read_dir(directory).ok()?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| matches!(WalFile::parse(name), Some(WalFile::Segment(_))))
    });
    let headers = segments.filter_map(|entry| Header::of_file(&entry.path()));
    let identifiers: BTreeSet<u64> = headers.map(|header| header.system_id).collect();
    // Of two nobody could say whose it is.
    identifiers.first().filter(|_| identifiers.len() == 1).map(ToString::to_string)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A segment of 1 MB with nothing in it.
    pub fn empty_segment(name: Segment, timeline: u32, system_id: u64) -> Vec<u8> {
        let size = 1_u64 << 20;
        let mut bytes = vec![0; size as usize];
        bytes[0..2].copy_from_slice(&0xD116_u16.to_le_bytes());
        bytes[2..4].copy_from_slice(&LONG_FLAG.to_le_bytes());
        bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
        bytes[8..16].copy_from_slice(&name.start(size).0.to_le_bytes());
        bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&(size as u32).to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn c5_what_does_not_belong_is_refused() {
        let name = Segment { timeline: 2, log: 0, number: 5 };
        let file = WalFile::Segment(name);
        let good = empty_segment(name, 2, 77);
        let check = |file: &WalFile, bytes: &[u8], id: &str| check(file, bytes, bytes.len() as u64, id);
        assert_eq!(check(&file, &good, "77"), Ok(()));
        assert_eq!(check(&file, &empty_segment(name, 1, 77), "77"), Ok(()), "first after a promotion");
        for (bytes, system_id, word) in [
            (good.clone(), "78", "system identifier"),
            (empty_segment(name, 3, 77), "77", "timeline 3"),
            (empty_segment(Segment { number: 6, ..name }, 2, 77), "77", "begins at"),
            (good[..500_000].to_vec(), "77", "500000 bytes"),
            (vec![0; 1 << 20], "77", "header"),
            (Vec::new(), "77", "header"),
        ] {
            assert!(check(&file, &bytes, system_id).unwrap_err().contains(word), "{word}");
        }
        assert!(check(&WalFile::History(2), b"", "77").is_err());
    }
}
