//! `pg_control` while the server writes it (PostgreSQL: `pg_control.h`).

use crate::Error;
use pgbosun_core::lsn::Lsn;
use std::{fs, path::Path, thread, time::Duration};

/// The server writes it in one piece, but a reader may see half of that.
const TRIES: usize = 50;

/// A control file whose checksum is right.
#[derive(Debug)]
pub(super) struct Control {
    pub bytes: Vec<u8>,
    /// Catalogue version, which is part of the names of directories in tablespaces.
    pub catalogue: u32,
    /// Where recovery would begin: `checkPointCopy.redo`.
    pub redo: Lsn,
    /// `checkPointCopy.ThisTimeLineID`.
    pub timeline: u32,
}

impl Control {
    /// Reads it until it is whole.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join("global/pg_control");
        for _ in 0..TRIES {
            let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
            if let Some(control) = Self::of(bytes) {
                return Ok(control);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(Error::Refused(format!("{} has no valid checksum: the control file is damaged", path.display())))
    }

    fn of(bytes: Vec<u8>) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        // The checksum is the last field, and where that lies depends on the version.
        let whole = (200..500).step_by(4).any(|end| {
            let before = bytes.get(..end).map(crc32c::crc32c);
            before.is_some() && before == word(end)
        });
        let redo = Lsn(u64::from(word(44)?) << 32 | u64::from(word(40)?));
        let (catalogue, timeline) = (word(12)?, word(48)?);
        whole.then_some(Self { bytes, catalogue, redo, timeline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_control_file_is_none() {
        let mut bytes = vec![7_u8; 8192];
        bytes[40..48].copy_from_slice(&0x1_0200_0028_u64.to_le_bytes());
        bytes[48..52].copy_from_slice(&3_u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&crc.to_le_bytes());
        let control = Control::of(bytes.clone()).unwrap();
        assert_eq!((control.catalogue, control.redo, control.timeline), (0x0707_0707, Lsn(0x1_0200_0028), 3));
        bytes[100] ^= 1;
        assert!(Control::of(bytes).is_none());
        assert!(Control::of(Vec::new()).is_none());
    }
}
