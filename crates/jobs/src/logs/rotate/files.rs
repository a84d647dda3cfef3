//! Log files as they lie there, and what is to be done with each: a pure function of its age and name.

use glob::Pattern;
use pgbosun_core::config::Compression;
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is compressed already.
const COMPRESSED: [&str; 6] = [".zst", ".gz", ".lz4", ".xz", ".bz2", ".Z"];
/// How a file ends that is not whole yet.
pub(super) const TEMPORARY: &str = ".pgbosun-tmp";

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// A file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub path: PathBuf,
    pub name: String,
    pub bytes: u64,
    pub mode: u32,
    pub modified: SystemTime,
    pub identity: Identity,
}

/// By what is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub compress: Duration,
    pub remove: Duration,
    pub mode: u32,
    pub compression: Compression,
    pub now: SystemTime,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Compress,
    Remove,
}

impl Entry {
    /// How long it was not written.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.modified).unwrap_or_default()
    }

    /// What is to be done with it.
    pub fn act(&self, rules: &Rules) -> Option<Act> {
        let age = self.age(rules.now);
        if age >= rules.remove {
            return Some(Act::Remove);
        }
        // What a run that was killed left is no log, and begins anew.
        if self.name.ends_with(TEMPORARY) {
            return Some(Act::Remove);
        }
        let plain = !COMPRESSED.iter().any(|suffix| self.name.ends_with(suffix));
        (plain && self.bytes > 0 && age >= rules.compress && rules.compression != Compression::None)
            .then_some(Act::Compress)
    }

    /// The permissions it should have, where it has more.
    pub const fn mode_within(&self, most: u32) -> Option<u32> {
        let mode = self.mode & most;
        if mode == self.mode { None } else { Some(mode) }
    }
}

/// The ordinary files of a directory whose names fit one of the patterns.
pub(super) fn list(directory: &Path, patterns: &[String]) -> io::Result<Vec<Entry>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let patterns: Vec<_> =
        patterns.iter().map(|pattern| Pattern::new(pattern)).collect::<Result<_, _>>().map_err(invalid)?;
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not through links: they may lead anywhere.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || !patterns.iter().any(|pattern| pattern.matches(&name)) {
            continue;
        }
        entries.push(Entry {
            path: entry.path(),
            name,
            bytes: metadata.len(),
            mode: metadata.permissions().mode() & 0o7777,
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            identity: (metadata.dev(), metadata.ino()),
        });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The files that processes have open, as far as this user may see.
pub(super) fn open_files() -> BTreeSet<Identity> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let numbers = processes.flatten().filter(|process| process.file_name().to_string_lossy().parse::<u32>().is_ok());
    let open = numbers.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten());
    open.filter_map(|descriptor| fs::metadata(descriptor.path()).ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect()
}

/// Sets the permissions.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_age_and_name() {
        let day = Duration::from_secs(86_400);
        let now = SystemTime::UNIX_EPOCH + 1000 * day;
        let rules = Rules { compress: 7 * day, remove: 90 * day, mode: 0o640, compression: Compression::Zstd, now };
        let act = |name: &str, days: u32| {
            let entry = Entry {
                path: PathBuf::new(),
                name: name.into(),
                bytes: 10,
                mode: 0o644,
                modified: now - days * day,
                identity: (0, 0),
            };
            assert_eq!(entry.mode_within(0o640), Some(0o640));
            entry.act(&rules)
        };
        assert_eq!(act("postgresql.log", 6), None);
        assert_eq!(act("postgresql.log", 7), Some(Act::Compress));
        assert_eq!(act("postgresql.log.1.gz", 80), None);
        assert_eq!(act("postgresql.log.1.gz", 90), Some(Act::Remove));
        assert_eq!(act("postgresql.log", 200), Some(Act::Remove));
        assert_eq!(act("postgresql.log.zst.pgbosun-tmp", 0), Some(Act::Remove));
    }
}
