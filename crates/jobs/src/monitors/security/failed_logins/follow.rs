//! Reading on in log files: each byte once, whatever happens to the files.
//!
//! A file is known by device, inode and its first bytes, not by its name: so one that was renamed is read to its end, and one
//! that was cut off or replaced is read from its beginning. One that began as another did that is gone or cut off is that one,
//! copied or compressed: it is read on from there. Only whole records are taken; the rest is there at the next check.
//! Must run where there is a runtime, on a thread that may block.

use crate::monitors::host::about;
use pgbosun_core::config::Compression;
use pgbosun_repository::decompress;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};
use tokio_util::io::SyncIoBridge;

/// Bytes of a file's beginning that it is known by: enough to tell logs apart that begin with the same words.
const HEAD: u64 = 64 << 10;
/// The position of an archive of which nothing is left to read.
const WHOLE: u64 = i64::MAX as u64;
/// Bytes read at once.
const PIECE: u64 = 8 << 20;
/// A record that is longer than this is passed over.
const LONGEST: usize = 64 << 20;

/// Up to where each file was read, by device and inode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions(BTreeMap<String, Position>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    read: u64,
    /// How many of the first bytes it is known by, and their SHA-256.
    head: (u64, String),
}

impl Positions {
    /// Whether no file was read at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes bytes from the beginning of a record on, and says how many of them are whole records.
type HandOn<'a> = &'a mut dyn FnMut(&[u8]) -> usize;

/// Hands on what is new in the files that fit the pattern, oldest first, and says up to where they were read. Without known
/// positions nothing is handed on: what was there before the first check is not news.
pub fn read_on(
    directory: &Path,
    pattern: &str,
    reads: &dyn Fn(&str) -> bool,
    known: Option<&Positions>,
    hand_on: HandOn<'_>,
) -> io::Result<Positions> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && fits(pattern, &name) && reads(&name) {
            files.push((metadata.modified()?, entry.path(), identity(&metadata)));
        }
    }
    files.sort();
    let mut positions = Positions::default();
    // Those that are known come first: what else there is may be a copy of one of them.
    let mut vanished = known.cloned().unwrap_or_default();
    let mut others = Vec::new();
    for (_, path, listed) in files {
        let Some(mut log) = Log::open(&path)? else {
            // Renamed since it was listed, or removed: where it was read to is kept for the next check.
            positions.0.extend(vanished.0.remove_entry(&listed));
            continue;
        };
        let identity = identity(&log.file.metadata()?);
        match (known, known.and_then(|known| known.0.get(&identity))) {
            (None, _) => {
                let end = log.end()?;
                positions.0.insert(identity, log.at(end)?);
            }
            (_, Some(position)) if log.continues(position)? => {
                vanished.0.remove(&identity);
                let unchanged = !log.is_plain();
                let position = if unchanged { position.clone() } else { log.read_on(position.read, hand_on)? };
                positions.0.insert(identity, position);
            }
            _ => others.push((log, identity, path)),
        }
    }
    for (mut log, identity, path) in others {
        let original = log.original(&vanished)?.and_then(|original| vanished.0.remove_entry(&original));
        match original {
            Some((original, position)) => match log.read_on(position.read, hand_on) {
                Ok(read) => {
                    let read = if log.is_plain() { read } else { log.at(WHOLE)? };
                    positions.0.insert(identity, read);
                }
                Err(error) if !log.is_plain() => {
                    tracing::warn!("{} cannot be read: {error}", path.display());
                    // Perhaps it is still being written; what is damaged is not tried for ever.
                    if log.is_young()? {
                        positions.0.insert(original, position);
                    } else {
                        positions.0.insert(identity, log.at(WHOLE)?);
                    }
                }
                Err(error) => return Err(error),
            },
            // The copy of one that is still there says nothing new, and is checked again when that is gone.
            None if log.original(&positions)?.is_some() => {}
            None if log.is_plain() => {
                positions.0.insert(identity, log.read_on(0, hand_on)?);
            }
            None => {
                let end = log.end()?;
                let position = log.at(end)?;
                // Nothing of an archive that has just begun tells whose it is.
                if position.head.0 > 0 {
                    positions.0.insert(identity, position);
                }
            }
        }
    }
    Ok(positions)
}

/// Device and inode.
fn identity(metadata: &Metadata) -> String {
    format!("{}:{}", metadata.dev(), metadata.ino())
}

/// One file.
struct Log {
    file: File,
    compression: Compression,
}

impl Log {
    /// None where it was renamed or removed since: the next check finds it under its other name, if it has one.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file, compression: Compression::of(&path.to_string_lossy()) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(about(path)(error)),
        }
    }

    fn is_plain(&self) -> bool {
        self.compression == Compression::None
    }

    /// Its text from a position on.
    fn text(&mut self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        if self.is_plain() {
            self.file.seek(SeekFrom::Start(from))?;
            return Ok(Box::new(&mut self.file));
        }
        // Opened again, since a clone would share its position with those that read ahead.
        let file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        let file = tokio::fs::File::from_std(file);
        let mut text = SyncIoBridge::new(decompress(self.compression, file));
        io::copy(&mut Read::by_ref(&mut text).take(from), &mut io::sink())?;
        Ok(Box::new(text))
    }

    /// Where its end is; of a compressed file, somewhere behind it.
    fn end(&self) -> io::Result<u64> {
        if self.is_plain() { Ok(self.file.metadata()?.len()) } else { Ok(WHOLE) }
    }

    /// Whether it was written to within the last hour.
    fn is_young(&self) -> io::Result<bool> {
        let age = self.file.metadata()?.modified()?.elapsed().unwrap_or_default();
        Ok(age < std::time::Duration::from_secs(3600))
    }

    /// Whether this is the file of that position: no shorter, and with the same beginning.
    fn continues(&mut self, position: &Position) -> io::Result<bool> {
        Ok(position.read <= self.end()? && self.head(position.head.0)? == position.head)
    }

    /// Which of the files that were read began as this one does, and was read no further than this one goes.
    fn original(&mut self, of: &Positions) -> io::Result<Option<String>> {
        let end = self.end()?;
        for (identity, position) in of.0.iter().filter(|(_, position)| position.head.0 > 0) {
            if (position.read <= end || position.read == WHOLE) && self.head(position.head.0)? == position.head {
                return Ok(Some(identity.clone()));
            }
        }
        Ok(None)
    }

    /// Its first bytes, so many at most: how many there are, and their SHA-256.
    fn head(&mut self, length: u64) -> io::Result<(u64, String)> {
        let mut bytes = Vec::new();
        let read = self.text(0).and_then(|text| text.take(length).read_to_end(&mut bytes));
        // An archive that is still being written, or is damaged, has the beginning it has.
        if self.is_plain() {
            read?;
        }
        Ok((bytes.len() as u64, hex::encode(Sha256::digest(bytes))))
    }

    fn at(&mut self, read: u64) -> io::Result<Position> {
        Ok(Position { read, head: self.head(HEAD.min(read))? })
    }

    /// Hands on the whole records from a position on.
    fn read_on(&mut self, from: u64, hand_on: HandOn<'_>) -> io::Result<Position> {
        let mut read = from.min(self.end()?);
        let mut text = self.text(read)?;
        let mut bytes = Vec::new();
        // What is left at the end is the last record, which is still being written.
        while Read::by_ref(&mut text).take(PIECE).read_to_end(&mut bytes)? > 0 {
            let mut whole = hand_on(&bytes);
            if bytes.len() - whole > LONGEST {
                whole = bytes.len();
            }
            bytes.drain(..whole);
            read += whole as u64;
        }
        drop(text);
        self.at(read)
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write};

    /// Reads on, on a thread that may block, and says what was new.
    fn check(directory: &Path, known: &mut Option<Positions>) -> String {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (directory, before) = (directory.to_owned(), known.clone());
        let read = runtime.handle().spawn_blocking(move || {
            let mut lines = String::new();
            let mut take = |bytes: &[u8]| {
                let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                lines.push_str(std::str::from_utf8(&bytes[..whole]).unwrap());
                whole
            };
            let positions = read_on(&directory, "postgresql*", &|_| true, before.as_ref(), &mut take).unwrap();
            (positions, lines)
        });
        let (positions, lines) = runtime.block_on(read).unwrap();
        *known = Some(positions);
        lines
    }

    #[test]
    fn copied_and_cut_off_or_compressed_before_its_rest_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let log = at("postgresql.log");
        let mut known = None;
        let mut check = || check(directory.path(), &mut known);
        let run = |program: &str, path: &Path| {
            let done = std::process::Command::new(program).arg("-q").arg(path).status().unwrap();
            assert!(done.success());
        };
        fs::write(&log, "one\n").unwrap();
        assert_eq!(check(), "");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("two\n");
        assert_eq!(check(), "two\n");
        // In the midst of it: the copy is there, and the original not cut off yet.
        append("three\n");
        fs::copy(&log, at("postgresql.log.1")).unwrap();
        assert_eq!(check(), "three\n");
        fs::write(&log, "").unwrap();
        append("four\n");
        assert_eq!(check(), "four\n", "what the copy holds was read in the original");
        // At once, with a rest that was not read.
        append("five\n");
        fs::rename(at("postgresql.log.1"), at("postgresql.log.2")).unwrap();
        fs::copy(&log, at("postgresql.log.1")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&log, "six\n").unwrap();
        assert_eq!(check(), "five\nsix\n");
        // Renamed and compressed, with a rest that was not read.
        append("seven\n");
        fs::rename(&log, at("postgresql.log.0")).unwrap();
        run("gzip", &at("postgresql.log.0"));
        run("gzip", &at("postgresql.log.2"));
        assert_eq!(check(), "seven\n");
        assert_eq!(check(), "");
        // An archive that comes from elsewhere is no news, nor one that was there before.
        fs::write(at("postgresql.old"), "long ago\n").unwrap();
        run("gzip", &at("postgresql.old"));
        assert_eq!(check(), "");
        run("gunzip", &at("postgresql.log.0.gz"));
        assert_eq!(check(), "");
    }

    #[test]
    fn each_line_once_over_rotation_truncation_and_replacement() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postgresql.log");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut known = None;
        let mut check = || check(directory.path(), &mut known);
        append("before\n");
        assert_eq!(check(), "", "what was there is no news");
        append("one\ntwo\nhal");
        assert_eq!(check(), "one\ntwo\n");
        append("f\n");
        assert_eq!(check(), "half\n");
        // Rotated by renaming, with a rest that was not read yet.
        append("last\n");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::rename(&log, directory.path().join("postgresql.log.1")).unwrap();
        append("first\n");
        assert_eq!(check(), "last\nfirst\n");
        assert_eq!(check(), "");
        // Rotated by copying and cutting off.
        append("more\n");
        assert_eq!(check(), "more\n");
        fs::write(&log, "anew\n").unwrap();
        assert_eq!(check(), "anew\n");
        // Replaced by another that is longer, perhaps under the same inode.
        fs::write(&log, "another, which is much longer\n").unwrap();
        assert_eq!(check(), "another, which is much longer\n");
        fs::remove_file(directory.path().join("postgresql.log.1")).unwrap();
        assert_eq!(check(), "");
    }

    #[test]
    fn patterns() {
        assert!(fits("postgresql-*-*", "postgresql-2026-11-21.csv"));
        assert!(fits("postgresql-15-main.log*", "postgresql-15-main.log.1"));
        assert!(!fits("postgresql-15-main.log*", "postgresql-16-main.log"));
        assert!(!fits("a*b", "a"));
    }
}
