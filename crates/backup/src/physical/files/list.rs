//! What of a data directory belongs in a backup (C13; PostgreSQL: `basebackup.c`).

use super::{DataDirectory, pages};
use crate::Error;
use pgbosun_core::name::to_text;
use pgbosun_postgres::replication::Tablespace;
use std::{
    collections::{HashSet, VecDeque},
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// Directories whose contents a server makes anew.
const EMPTIED: [&str; 7] =
    ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// Files that belong to the running server, and what an earlier backup or restore left.
const LEFT_OUT: [&str; 8] = [
    "backup_label",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "pgbosun-config",
    "postmaster.opts",
    "postmaster.pid",
    "tablespace_map",
];
const LEFT_OUT_PREFIXES: [&str; 2] = ["pgsql_tmp", "pg_internal.init"];

/// Small files are handed to a worker together, up to so many bytes.
const UNIT: u64 = 1 << 20;

/// Something to copy.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the data directory.
    pub path: PathBuf,
    pub kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    Link(PathBuf),
    /// A file. Of a relation with checksums: the number of its segment.
    File {
        segment: Option<u32>,
    },
}

/// What one worker takes at a time, of one archive: the data directory or a tablespace.
#[derive(Debug)]
pub(super) struct Unit {
    pub tablespace: Option<u32>,
    pub entries: Vec<Entry>,
}

/// Everything to copy.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Per archive its directories first, then its files, the largest first: so the workers end together.
    pub units: VecDeque<Unit>,
    pub tablespaces: Vec<Tablespace>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What one archive holds.
#[derive(Default)]
struct Archive {
    skeleton: Vec<Entry>,
    files: Vec<(u64, Entry)>,
}

impl Listing {
    /// Looks through a data directory and its tablespaces. What vanishes meanwhile is not missed.
    ///
    /// A tablespace may hold the directories of other versions, after an upgrade; only this one's is ours.
    pub fn of(data: &DataDirectory, catalogue: u32) -> Result<Self, Error> {
        let mut listing = Self::default();
        let mut base = Archive::default();
        let version = data.version_directory(catalogue);
        let walk = Walk {
            root: data.root(),
            summaries: data.server_version >= 170_000,
            // A tablespace within the data directory, of which PostgreSQL only warns, is copied once.
            tablespaces: data.tablespaces().into_iter().map(|(_, location)| location).collect(),
        };
        walk.directory(Path::new(""), &mut base)?;
        for entry in &base.skeleton {
            let Kind::Link(location) = &entry.kind else { continue };
            let oid = entry.path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
            let Some(oid) = oid else { continue };
            listing.tablespaces.push(Tablespace { oid, location: to_text(location.as_os_str().as_bytes()) });
            let mut archive = Archive::default();
            let path = entry.path.join(&version);
            archive.skeleton.push(Entry { path: path.clone(), kind: Kind::Directory });
            walk.directory(&path, &mut archive)?;
            listing.add(Some(oid), archive);
        }
        listing.add(None, base);
        Ok(listing)
    }

    fn add(&mut self, tablespace: Option<u32>, mut archive: Archive) {
        self.bytes += archive.files.iter().map(|(size, _)| size).sum::<u64>();
        archive.files.sort_by(|(one, _), (other, _)| other.cmp(one));
        self.units.push_back(Unit { tablespace, entries: archive.skeleton });
        let (mut entries, mut gathered) = (Vec::new(), 0);
        for (size, entry) in archive.files {
            entries.push(entry);
            gathered += size;
            if gathered >= UNIT {
                self.units.push_back(Unit { tablespace, entries: std::mem::take(&mut entries) });
                gathered = 0;
            }
        }
        self.units.push_back(Unit { tablespace, entries });
    }
}

struct Walk<'a> {
    root: &'a Path,
    /// PostgreSQL 17 and later have WAL summaries.
    summaries: bool,
    /// Where tablespaces lie.
    tablespaces: Vec<PathBuf>,
}

impl Walk<'_> {
    /// Adds what is in a directory, itself not.
    fn directory(&self, directory: &Path, archive: &mut Archive) -> Result<(), Error> {
        let whole = self.root.join(directory);
        let failed = || Error::file("list", &whole);
        let mut names = Vec::new();
        match fs::read_dir(&whole) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry.map_err(failed())?.file_name());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        }
        let relations = holds_relations(directory);
        let unlogged: HashSet<Vec<u8>> = names
            .iter()
            .filter_map(|name| Some(name.as_bytes().strip_suffix(b"_init")?.to_vec()))
            .filter(|_| relations)
            .collect();
        for name in &names {
            let path = directory.join(name);
            let text = name.to_string_lossy();
            let left_out = LEFT_OUT.contains(&text.as_ref())
                || LEFT_OUT_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
                || path == Path::new("global/pg_control")
                || relations && (is_temporary(&text) || is_unlogged(&text, &unlogged));
            if !left_out {
                self.entry(path, &text, relations, archive)?;
            }
        }
        Ok(())
    }

    fn entry(&self, path: PathBuf, name: &str, relations: bool, archive: &mut Archive) -> Result<(), Error> {
        let whole = self.root.join(&path);
        let metadata = match fs::symlink_metadata(&whole) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("inspect", &whole)(error)),
        };
        let emptied = EMPTIED.iter().any(|emptied| path == Path::new(emptied));
        let mut skeleton = |path, kind| archive.skeleton.push(Entry { path, kind });
        if path == Path::new("pg_wal") {
            // Also where it is a link to another disk: the WAL is not ours to copy, and a restore makes a directory.
            for below in ["", "archive_status"].into_iter().chain(self.summaries.then_some("summaries")) {
                skeleton(path.join(below), Kind::Directory);
            }
        } else if emptied {
            // As `pg_wal`.
            skeleton(path, Kind::Directory);
        } else if metadata.is_dir() {
            skeleton(path.clone(), Kind::Directory);
            if !self.tablespaces.contains(&whole) {
                self.directory(&path, archive)?;
            }
        } else if metadata.is_symlink() && path.parent() == Some(Path::new("pg_tblspc")) {
            let location = fs::read_link(&whole).map_err(Error::file("read", &whole))?;
            skeleton(path, Kind::Link(location));
        } else if metadata.is_file() {
            let kind = Kind::File { segment: pages::segment_of(relations, name) };
            archive.files.push((metadata.size(), Entry { path, kind }));
        } else if metadata.is_symlink() {
            // As the server does: what a link leads to belongs to somebody else.
            tracing::warn!("not backed up, since it is a link: {}", whole.display());
        }
        Ok(())
    }
}

/// `global`, `base/<database>`, `pg_tblspc/<oid>/<version>/<database>`.
fn holds_relations(directory: &Path) -> bool {
    let parts: Vec<_> = directory.iter().map(|part| part.to_string_lossy()).collect();
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.as_slice() {
        [only] => only == "global",
        [base, database] => base == "base" && number(database),
        [first, _, version, database] => first == "pg_tblspc" && version.starts_with("PG_") && number(database),
        _ => false,
    }
}

/// A relation of one session: `t<backend>_<node>` with fork and segment.
fn is_temporary(name: &str) -> bool {
    let Some((backend, node)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(backend) && node.starts_with(|first: char| first.is_ascii_digit())
}

/// Of an unlogged relation only the fork it begins with again is kept.
fn is_unlogged(name: &str, unlogged: &HashSet<Vec<u8>>) -> bool {
    let node = name.split(['_', '.']).next().unwrap_or_default();
    unlogged.contains(node.as_bytes()) && !name.contains("_init")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn c13_what_a_server_makes_anew_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let (root, space) = (directory.path().join("data"), directory.path().join("space"));
        for path in ["base/5", "base/pgsql_tmp", "global", "pg_wal/archive_status", "pg_tblspc", "pg_replslot/s", "log"]
        {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::create_dir_all(space.join("PG_15_1/5")).unwrap();
        fs::create_dir_all(space.join("PG_14_9/5")).unwrap();
        fs::write(space.join("PG_14_9/5/400"), "of an older version").unwrap();
        symlink(&space, root.join("pg_tblspc/99")).unwrap();
        symlink("/etc/passwd", root.join("link.conf")).unwrap();
        symlink("/tmp", root.join("pg_stat_tmp")).unwrap();
        fs::create_dir_all(root.join("inside/PG_15_1")).unwrap();
        fs::write(root.join("inside/PG_15_1/file"), "x").unwrap();
        symlink(root.join("inside"), root.join("pg_tblspc/98")).unwrap();
        for path in [
            "PG_VERSION",
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "base/5/100",
            "base/5/100.1",
            "base/5/100_vm",
            "base/5/200",
            "base/5/200.1",
            "base/5/200_init",
            "base/5/200_fsm",
            "base/5/t3_300",
            "base/5/t3_300_fsm.1",
            "base/5/pg_internal.init",
            "base/5/pg_filenode.map",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "global/1262",
            "pg_wal/000000010000000000000001",
            "pg_replslot/s/state",
            "log/postgresql.log",
            "pg_tblspc/99/PG_15_1/5/400",
            "pg_tblspc/99/PG_15_1/5/t1_2",
        ] {
            fs::write(root.join(path), "x").unwrap();
        }
        fs::write(root.join("base/5/100.1"), vec![0; 2 << 20]).unwrap();
        let data = DataDirectory::for_test(&root);
        let listing = Listing::of(&data, 1).unwrap();
        let paths = |keep: fn(&Kind) -> bool| {
            let entries = listing.units.iter().flat_map(|unit| &unit.entries).filter(|entry| keep(&entry.kind));
            let mut paths: Vec<_> = entries.map(|entry| entry.path.to_string_lossy().into_owned()).collect();
            paths.sort();
            paths
        };
        assert_eq!(
            paths(|kind| matches!(kind, Kind::File { .. })),
            [
                "PG_VERSION",
                "base/5/100",
                "base/5/100.1",
                "base/5/100_vm",
                "base/5/200_init",
                "base/5/pg_filenode.map",
                "global/1262",
                "log/postgresql.log",
                "pg_tblspc/98/PG_15_1/file",
                "pg_tblspc/99/PG_15_1/5/400",
            ]
        );
        assert_eq!(
            paths(|kind| matches!(kind, Kind::Directory)),
            [
                "base",
                "base/5",
                "global",
                "inside",
                "log",
                "pg_replslot",
                "pg_stat_tmp",
                "pg_tblspc",
                "pg_tblspc/98/PG_15_1",
                "pg_tblspc/99/PG_15_1",
                "pg_tblspc/99/PG_15_1/5",
                "pg_wal/",
                "pg_wal/archive_status",
            ]
        );
        let mut tablespaces = listing.tablespaces.clone();
        tablespaces.sort_by_key(|tablespace| tablespace.oid);
        let location = |path: &Path| path.to_string_lossy().into_owned();
        assert_eq!(
            tablespaces,
            [
                Tablespace { oid: 98, location: location(&root.join("inside")) },
                Tablespace { oid: 99, location: location(&space) },
            ]
        );
        assert_eq!(listing.bytes, (2 << 20) + 9);
        assert_eq!(data.hidden_tablespace(1), None);
        fs::rename(&space, directory.path().join("elsewhere")).unwrap();
        assert_eq!(data.hidden_tablespace(1), Some(space), "a tablespace that cannot be seen is no empty one");
        let first = |tablespace| listing.units.iter().find(|unit| unit.tablespace == tablespace).unwrap();
        assert!(first(None).entries.iter().all(|entry| !matches!(entry.kind, Kind::File { .. })), "directories first");
        assert!(first(Some(99)).entries.len() == 2);
    }
}
