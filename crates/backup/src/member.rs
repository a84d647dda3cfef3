//! What a volume may hold: the one reading of tar that restores and verification share, so that neither takes what the other
//! refuses.
//!
//! C18, C36: names lead down, links are those of tablespaces and of `pg_wal`, nothing else is there; what describes a member is
//! small, so that no header makes a reader hold more than a path.

use crate::Error;
use std::{
    io::{self, Read},
    path::{Component, Path},
};

const BLOCK: usize = 512;

/// Bytes of what describes a member beside its header: some of the longest paths there are (PATH_MAX).
const DESCRIPTION: u64 = 1 << 16;

/// The members of a volume.
pub(crate) fn archive<R: Read>(reader: R) -> tar::Archive<Guard<R>> {
    tar::Archive::new(Guard { inner: reader, block: Vec::with_capacity(BLOCK), left: 0, described: None })
}

/// Refuses what a restore does not write.
pub(crate) fn check<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(), Error> {
    let path = entry.path().map_err(Error::file("read", "a member of a volume"))?;
    let kind = entry.header().entry_type();
    if !leads_down(&path) {
        return Err(Error::Refused(format!(
            "the backup contains the path {:?}, which leads outside",
            path.display().to_string()
        )));
    }
    let known = match kind {
        tar::EntryType::Directory => true,
        tar::EntryType::Symlink => path == Path::new("pg_wal") || is_tablespace_link(&path),
        kind => kind.is_file(),
    };
    if known {
        return Ok(());
    }
    Err(Error::Refused(format!("the backup contains {:?} of the unexpected kind {kind:?}", path.display().to_string())))
}

fn leads_down(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn is_tablespace_link(path: &Path) -> bool {
    let oid = path.strip_prefix("pg_tblspc").ok().and_then(Path::to_str);
    oid.is_some_and(|oid| oid.parse::<u32>().is_ok())
}

/// Follows a tar from header to header, and refuses descriptions that are too long before anybody holds them.
pub(crate) struct Guard<R> {
    inner: R,
    block: Vec<u8>,
    /// Bytes until the next header.
    left: u64,
    /// Of an extension for a member, what came of it.
    described: Option<(u64, Vec<u8>)>,
}

impl<R> Guard<R> {
    fn follow(&mut self, mut data: &[u8]) -> io::Result<()> {
        let refused = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        while !data.is_empty() {
            if self.left > 0 {
                let take = usize::try_from(self.left).map_or(data.len(), |left| left.min(data.len()));
                if let Some((_, text)) = &mut self.described {
                    text.extend_from_slice(&data[..take]);
                }
                self.left -= take as u64;
                data = &data[take..];
                continue;
            }
            // A size in there would have its reader find other headers than we do.
            if let Some((size, mut text)) = self.described.take() {
                text.truncate(usize::try_from(size).unwrap_or(0));
                if text.windows(6).any(|word| word == b" size=") {
                    return Err(refused("a member's size is not in its header"));
                }
            }
            let take = (BLOCK - self.block.len()).min(data.len());
            self.block.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.block.len() < BLOCK {
                continue;
            }
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&self.block);
            self.block.clear();
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                continue;
            }
            let size = header.entry_size()?;
            let kind = header.entry_type();
            if kind.is_gnu_sparse() {
                return Err(refused("it has a sparse member, which is never part of a backup"));
            }
            let describes = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            if describes && size > DESCRIPTION {
                return Err(refused("the name of a member is longer than a path can be"));
            }
            self.described = describes.then(|| (size, Vec::new()));
            self.left = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| refused("a member has no end"))?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.follow(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: tar::EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for entry in archive(bytes).entries().map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| format!("{:?}", error))?;
            check(&entry).map_err(|error| error.to_string())?;
            names.push(entry.path().map_err(|error| error.to_string())?.display().to_string());
        }
        Ok(names)
    }

    #[test]
    fn c36_long_names_are_read_and_endless_ones_are_not() {
        let long = "d/".repeat(150) + "file";
        for pax in [false, true] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            if pax {
                builder.append_pax_extensions([("path", long.as_bytes())]).unwrap();
                header.set_path("short").unwrap();
                header.set_cksum();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(0);
                builder.append_data(&mut header, &long, io::empty()).unwrap();
            }
            assert_eq!(read(&builder.into_inner().unwrap()).unwrap(), [long.as_str()]);
        }
        for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
            let error = read(&member(kind, 4 << 30)).unwrap_err();
            assert!(error.contains("longer than a path"), "{error}");
        }
        assert!(read(&member(tar::EntryType::GNUSparse, 0)).unwrap_err().contains("sparse"));
        assert!(read(&member(tar::EntryType::Regular, u64::MAX)).is_err());
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("size", b"1024".as_slice())]).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(1024);
        bytes.extend(member(tar::EntryType::Regular, 0));
        assert!(read(&bytes).unwrap_err().contains("not in its header"));
    }

    #[test]
    fn c18_what_a_restore_refuses_is_refused_by_whoever_reads() {
        for (name, kind, good) in [
            ("base/1/2", tar::EntryType::Regular, true),
            ("base", tar::EntryType::Directory, true),
            ("pg_tblspc/16400", tar::EntryType::Symlink, true),
            ("pg_wal", tar::EntryType::Symlink, true),
            ("pg_tblspc/../../x", tar::EntryType::Symlink, false),
            ("pg_tblspc/x", tar::EntryType::Symlink, false),
            ("base/1", tar::EntryType::Symlink, false),
            ("base/1", tar::EntryType::Link, false),
            ("base/1", tar::EntryType::Fifo, false),
            ("base/1", tar::EntryType::Char, false),
            ("../x", tar::EntryType::Regular, false),
            ("/etc/passwd", tar::EntryType::Regular, false),
        ] {
            let mut bytes = member(kind, 0);
            bytes[..100].fill(0);
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes);
            header.set_cksum();
            assert_eq!(read(header.as_bytes()).is_ok(), good, "{name} {kind:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn c36_no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096)) {
            let _ = read(&bytes);
        }
    }
}
