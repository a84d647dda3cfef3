//! Reading on in log files: each byte once, whatever happens to the files.
//!
//! A file is known by device, inode and its first bytes, not by its name: so one that was renamed is read to its end, and one
//! that was cut off or replaced is read from its beginning. Only whole records are taken; the rest is there at the next look.

use super::formats::Format;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Bytes of a file's beginning that it is known by.
const HEAD: u64 = 256;
/// Bytes read at once.
const PIECE: u64 = 8 << 20;
/// A record that is longer than this is passed over.
const LONGEST: u64 = 64 << 20;

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

/// Hands on what is new in the files that fit the pattern, oldest first, and says up to where they were read. Without known
/// positions nothing is handed on: what was there before the first look is not news.
pub fn read_on(
    directory: &Path,
    pattern: &str,
    format: &Format,
    known: Option<&Positions>,
    hand_on: &mut dyn FnMut(&[u8]),
) -> io::Result<Positions> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && fits(pattern, &name) && format.reads(&name) {
            let written = (metadata.mtime(), metadata.mtime_nsec());
            files.push((written, entry.path(), format!("{}:{}", metadata.dev(), metadata.ino())));
        }
    }
    files.sort();
    let mut positions = Positions::default();
    for (_, path, identity) in files {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // Renamed or removed since: the next look finds it under its other name, if it has one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        let size = file.metadata()?.len();
        let from = match known {
            None => size,
            Some(known) => match known.0.get(&identity) {
                Some(position) if position.read <= size && head(&mut file, position.head.0)? == position.head.1 => {
                    position.read
                }
                _ => 0,
            },
        };
        let read = if from < size { advance(&mut file, from, size, format, hand_on)? } else { from };
        let length = HEAD.min(read);
        positions.0.insert(identity, Position { read, head: (length, head(&mut file, length)?) });
    }
    Ok(positions)
}

/// Hands on the whole records from a position on, and returns the end of the last.
fn advance(
    file: &mut File,
    mut from: u64,
    size: u64,
    format: &Format,
    hand_on: &mut dyn FnMut(&[u8]),
) -> io::Result<u64> {
    let mut piece = PIECE;
    while from < size {
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(piece.min(size - from)).read_to_end(&mut bytes)?;
        let whole = format.whole(&bytes);
        if whole == 0 {
            if from + bytes.len() as u64 >= size {
                break; // The last record is still being written.
            }
            piece *= 2;
            if piece > LONGEST {
                from += bytes.len() as u64;
                piece = PIECE;
            }
            continue;
        }
        hand_on(&bytes[..whole]);
        from += whole as u64;
        piece = PIECE;
    }
    Ok(from)
}

fn head(file: &mut File, length: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    Read::by_ref(file).take(length).read_to_end(&mut bytes)?;
    Ok(hex::encode(Sha256::digest(bytes)))
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

    #[test]
    fn each_line_once_over_rotation_truncation_and_replacement() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postgresql.log");
        let format = Format::of("stderr", "%m [%p] ").unwrap();
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut known: Option<Positions> = None;
        let mut look = || {
            let mut lines = String::new();
            let mut take = |bytes: &[u8]| lines.push_str(std::str::from_utf8(bytes).unwrap());
            known = Some(read_on(directory.path(), "postgresql*", &format, known.as_ref(), &mut take).unwrap());
            lines
        };
        append("before\n");
        assert_eq!(look(), "", "what was there is no news");
        append("one\ntwo\nhal");
        assert_eq!(look(), "one\ntwo\n");
        append("f\n");
        assert_eq!(look(), "half\n");
        // Rotated by renaming, with a rest that was not read yet.
        append("last\n");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::rename(&log, directory.path().join("postgresql.log.1")).unwrap();
        append("first\n");
        assert_eq!(look(), "last\nfirst\n");
        assert_eq!(look(), "");
        // Rotated by copying and cutting off.
        append("more\n");
        assert_eq!(look(), "more\n");
        fs::write(&log, "anew\n").unwrap();
        assert_eq!(look(), "anew\n");
        // Replaced by another that is longer, perhaps under the same inode.
        fs::write(&log, "another, which is much longer\n").unwrap();
        assert_eq!(look(), "another, which is much longer\n");
        fs::remove_file(directory.path().join("postgresql.log.1")).unwrap();
        assert_eq!(look(), "");
    }

    #[test]
    fn patterns() {
        assert!(fits("postgresql-*-*", "postgresql-2026-11-21.csv"));
        assert!(fits("postgresql-15-main.log*", "postgresql-15-main.log.1"));
        assert!(!fits("postgresql-15-main.log*", "postgresql-16-main.log"));
        assert!(!fits("a*b", "a"));
    }
}
