//! The target made ready: what of it stays, what goes, and its directories and links.

use super::{
    Existing, Restore,
    extract::{Access, CONTROL, CONTROL_UNFINISHED},
};
use crate::{Error, manifest};
use pgbosun_core::name::{to_path, to_text};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Its presence says that a restore into this directory was begun and not finished.
pub(super) const MARKER: &str = ".pgbosun-restoring";

impl Restore {
    /// C31: what becomes of links in the data directory, such as those of configuration kept elsewhere. In the original's place those
    /// that lead somewhere belong to it, but where the backup has a file of its own.
    pub(super) fn links(&self, expected: &HashMap<String, manifest::Expected>) -> Links {
        let mut links = Links::default();
        for entry in fs::read_dir(&self.target).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), to_text(entry.file_name().as_bytes()));
            let own =
                |file: &String| *file == name || file.strip_prefix(&name).is_some_and(|rest| rest.starts_with('/'));
            if name == WAL || !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            if !self.is_beside() && path.exists() && !expected.keys().any(own) {
                links.kept.insert(name);
            } else {
                links.removed.insert(name);
            }
        }
        links
    }

    /// Makes the directories, and what is there harmless: without `pg_control` no server starts (C12).
    pub(super) fn lay_out(&self, places: &BTreeMap<u32, PathBuf>, links: &Links, access: Access) -> Result<(), Error> {
        remove(&self.target.join(CONTROL))?;
        if self.existing == Existing::Replace {
            let stay = [MARKER, WAL].into_iter().map(PathBuf::from).chain(links.kept.iter().map(|name| to_path(name)));
            let stay: Vec<_> = stay.collect();
            empty(&self.target, &|name| stay.iter().any(|kept| kept.as_os_str() == name))?;
            for directory in places.values() {
                empty(directory, &|name| is_of_others(&name.to_string_lossy(), self.info.major()))?;
            }
            empty_wal(&self.target)?;
        }
        for directory in places.values() {
            access.create(directory)?;
        }
        // C18: links first, from what backup.json says, never from what an archive says.
        let links = self.target.join("pg_tblspc");
        access.create(&links)?;
        empty(&links, &|_| false)?;
        for (oid, place) in places {
            symlink(place, links.join(oid.to_string())).map_err(Error::file("link tablespace", place))?;
        }
        Ok(())
    }
}

const WAL: &str = "pg_wal";

/// Links in a target, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub kept: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

/// C31: a link of `pg_wal` to another disk stays, and what it leads to is emptied; a directory goes, and is made anew.
fn empty_wal(target: &Path) -> Result<(), Error> {
    let wal = target.join(WAL);
    match fs::symlink_metadata(&wal) {
        Ok(found) if found.is_symlink() && wal.is_dir() => empty(&wal, &|_| false),
        Ok(found) if found.is_dir() => fs::remove_dir_all(&wal).map_err(Error::file("remove", &wal)),
        _ => remove(&wal),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether an entry of a tablespace's directory is none of this version's: after an upgrade the clusters of two versions share the place,
/// and the root of a file system has lost+found.
fn is_of_others(name: &str, major: u32) -> bool {
    !name.starts_with(&format!("PG_{major}_"))
}

/// The same, for a path in a data directory.
fn lies_with_others(path: &str, major: u32) -> bool {
    let entry = path.strip_prefix("pg_tblspc/").and_then(|space| space.split_once('/'));
    entry.is_some_and(|(_, entry)| is_of_others(entry, major))
}

/// Removes what is in a directory and not to be kept, links themselves and not what they lead to.
fn empty(directory: &Path, keep: &dyn Fn(&OsStr) -> bool) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("list", directory)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?;
        if keep(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::file("remove", path))?;
    }
    Ok(())
}

/// The files of the target that are as the manifest says and need not be fetched. Everything that the backup does not
/// have is removed, whatever it is (C31): a directory of a replication slot without its files has the server panic.
pub(super) fn keep_what_is_right(
    target: &Path,
    expected: &HashMap<String, manifest::Expected>,
    combined: &HashSet<String>,
    links: &Links,
    major: u32,
) -> Result<HashSet<String>, Error> {
    empty_wal(target)?;
    prune(target, "", &parents(expected), major)?;
    let mut found = Vec::new();
    walk(target, "", major, &mut found)?;
    let mut right = HashSet::new();
    let mut doubtful = Vec::new();
    for (name, path, size) in found {
        // What is put together from several backups has no checksum to compare with, and is put together anew.
        match expected.get(&name) {
            Some(file) if file.size == size && !combined.contains(&name) => {
                doubtful.push((size, name, path, file.crc32c.clone()));
            }
            _ if name == MARKER || links.kept.contains(&name) => {}
            _ if combined.contains(&name) => {}
            _ => remove(&path)?,
        }
    }
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    // The largest first, one at a time: so the threads end together.
    doubtful.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
    let next = AtomicUsize::new(0);
    let checked: Vec<Result<Vec<String>, Error>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut right = Vec::new();
                    while let Some((_, name, path, expected)) = doubtful.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let failed = || Error::file("read", path);
                        let mut file = fs::File::open(path).map_err(failed())?;
                        let (_, crc) = manifest::measure(&mut file).map_err(failed())?;
                        if expected.as_ref() == Some(&crc) {
                            right.push(name.clone());
                        }
                    }
                    Ok(right)
                })
            })
            .collect();
        let broken = || Err(Error::Interrupted("a thread that compared files ended unexpectedly".into()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| broken())).collect()
    });
    for names in checked {
        right.extend(names?);
    }
    // It has another name until the end, and its checkpoint is the backup's.
    for name in [CONTROL, CONTROL_UNFINISHED] {
        right.remove(name);
    }
    Ok(right)
}

/// The directories that hold files of the manifest.
fn parents(expected: &HashMap<String, manifest::Expected>) -> HashSet<&str> {
    let mut parents = HashSet::new();
    for name in expected.keys() {
        let mut name = name.as_str();
        while let Some((parent, _)) = name.rsplit_once('/') {
            if !parents.insert(parent) {
                break;
            }
            name = parent;
        }
    }
    parents
}

/// Removes directories in which the backup has no file. Those that it has empty are made anew with it.
fn prune(directory: &Path, prefix: &str, parents: &HashSet<&str>, major: u32) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?;
        let (path, name) = (entry.path(), to_text(entry.file_name().as_bytes()));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(Error::file("inspect", &path))?;
        let is_tablespace = kind.is_symlink() && prefix == "pg_tblspc";
        if lies_with_others(&name, major) {
            continue;
        }
        if is_tablespace || (kind.is_dir() && (parents.contains(name.as_str()) || name == "pg_tblspc")) {
            prune(&path, &name, parents, major)?;
        } else if kind.is_dir() {
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Files below a data directory by their paths in the manifest, over the links of tablespaces too.
fn walk(directory: &Path, prefix: &str, major: u32, found: &mut Vec<(String, PathBuf, u64)>) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?;
        let (path, name) = (entry.path(), to_text(entry.file_name().as_bytes()));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(Error::file("inspect", &path))?;
        if name == WAL || lies_with_others(&name, major) {
            continue;
        }
        if kind.is_dir() || (kind.is_symlink() && prefix == "pg_tblspc") {
            walk(&path, &name, major, found)?;
        } else {
            let size = entry.metadata().map_err(Error::file("inspect", &path))?.len();
            found.push((name, path, size));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c31_what_another_version_has_in_a_tablespaces_place_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (target, place) = (directory.path().join("data"), directory.path().join("space"));
        fs::create_dir_all(target.join("pg_tblspc")).unwrap();
        for name in ["PG_15_202209061/5", "PG_17_202406281/5", "lost+found"] {
            fs::create_dir_all(place.join(name)).unwrap();
        }
        for name in ["PG_15_202209061/5/old", "PG_17_202406281/5/live"] {
            fs::write(place.join(name), name).unwrap();
        }
        symlink(&place, target.join("pg_tblspc/16400")).unwrap();
        let there = || {
            let mut names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        keep_what_is_right(&target, &HashMap::new(), &HashSet::new(), &Links::default(), 15).unwrap();
        assert_eq!(there(), ["PG_17_202406281", "lost+found"]);
        assert!(place.join("PG_17_202406281/5/live").exists());
        fs::create_dir(place.join("PG_15_202209061")).unwrap();
        empty(&place, &|name| is_of_others(&name.to_string_lossy(), 15)).unwrap();
        assert_eq!(there(), ["PG_17_202406281", "lost+found"]);
    }
}
