//! What must hold before the first byte (C17), and what of the target can stay.

use super::{
    Existing, Restore,
    extract::{CONTROL, CONTROL_UNFINISHED, create_private},
};
use crate::{Error, manifest};
use pgbosun_core::{human, name::to_text};
use pgbosun_repository::{ObjectKind, TablespaceInfo};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Its presence says that a restore into this directory was begun and not finished.
pub(super) const MARKER: &str = ".pgbosun-restoring";

impl Restore {
    /// Where each tablespace goes.
    pub(super) fn places(&self) -> Result<BTreeMap<u32, PathBuf>, Error> {
        if let Some(unknown) =
            self.tablespaces.keys().find(|old| !self.info.tablespaces.iter().any(|space| space.location == **old))
        {
            let known: Vec<_> = self.info.tablespaces.iter().map(|space| space.location.as_str()).collect();
            return Err(Error::Refused(format!(
                "no tablespace of backup {} lay at {unknown}; there are: {}. One that was created later is made inside the copy, in \
                 pg_tblspc",
                self.info.label,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        let spaces = self.info.tablespaces.iter();
        let place =
            |space: &TablespaceInfo| self.tablespaces.get(&space.location).cloned().unwrap_or_else(|| space.place());
        Ok(spaces.map(|space| (space.oid, place(space))).collect())
    }

    /// C17: never over a running server, and over what is there only when told to.
    pub(super) fn check_target(&self, places: &BTreeMap<u32, PathBuf>) -> Result<(), Error> {
        for (index, directory) in std::iter::once(&self.target).chain(places.values()).enumerate() {
            let mut entries = match fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("look into", directory)(error)),
            };
            if entries.next().is_none() {
                continue;
            }
            let shown = directory.display();
            if let Some(pid) = running(directory) {
                return Err(Error::Refused(format!(
                    "a PostgreSQL server runs in {shown} (process {pid}): stop it first"
                )));
            }
            if self.existing == Existing::Refuse {
                return Err(Error::Refused(format!(
                    "{shown} is not empty: restore into an empty directory, or say --delta (keep what is right) or \
                     --force (replace everything)"
                )));
            }
            let ours = ["PG_VERSION", MARKER].iter().any(|name| directory.join(name).exists());
            // A tablespace's directory is replaced only where it is this target's: the original's may lie there, and live.
            let linked = fs::read_dir(self.target.join("pg_tblspc")).into_iter().flatten().flatten();
            let own = linked.filter_map(|link| link.path().canonicalize().ok()).collect::<Vec<_>>();
            if index > 0 && !directory.canonicalize().is_ok_and(|place| own.contains(&place)) {
                return Err(Error::Refused(format!(
                    "the tablespace directory {shown} is not empty and no tablespace of {}: nothing in it is replaced; \
                     say where it goes with --tablespace OLD=NEW",
                    self.target.display()
                )));
            }
            if index == 0 && !ours {
                return Err(Error::Refused(format!(
                    "{shown} is neither empty nor a data directory: nothing in it is replaced"
                )));
            }
        }
        Ok(())
    }

    /// Each file system must have room for what goes there; what is there and stays or goes counts as room.
    pub(super) fn check_space(&self, places: &BTreeMap<u32, PathBuf>) -> Result<(), Error> {
        let mut needs: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
        for object in &self.info.objects {
            let into = match object.kind {
                ObjectKind::Tablespace(oid) => places.get(&oid).unwrap_or(&self.target),
                _ => &self.target,
            };
            let there = into.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
            let device = fs::metadata(there).map_err(Error::file("look at", there))?.dev();
            needs.entry(device).or_insert_with(|| (there.to_owned(), 0)).1 += object.plain_size;
        }
        // Of an incremental backup only the changes are counted; the databases' size is what it becomes.
        let whole: u64 = self.info.databases.values().sum();
        for (there, need) in needs.values() {
            let need = if self.info.is_incremental() && needs.len() == 1 { whole.max(*need) } else { *need };
            let stat =
                nix::sys::statvfs::statvfs(there).map_err(|errno| Error::file("measure", there)(errno.into()))?;
            let occupied = if self.existing == Existing::Refuse { 0 } else { size_below(&self.target) };
            let free = stat.blocks_available() * stat.fragment_size() + occupied;
            if free < need {
                return Err(Error::Refused(format!(
                    "{} has {} free, and the restore needs {} there",
                    there.display(),
                    human::size(free),
                    human::size(need)
                )));
            }
        }
        Ok(())
    }

    /// C31: links in the data directory to files that are there, such as configuration kept elsewhere; in the original's place they
    /// belong to it.
    pub(super) fn links_that_stay(&self) -> Vec<String> {
        if self.is_beside() {
            return Vec::new();
        }
        let entries = fs::read_dir(&self.target).into_iter().flatten().flatten();
        let links =
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()) && entry.path().is_file());
        let mut names: Vec<_> = links.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Makes the directories, and what is there harmless: without `pg_control` no server starts (C12).
    pub(super) fn lay_out(&self, places: &BTreeMap<u32, PathBuf>, links: &[String]) -> Result<(), Error> {
        create_private(&self.target)?;
        let marker = self.target.join(MARKER);
        fs::write(&marker, &self.info.label).map_err(Error::file("write", &marker))?;
        remove(&self.target.join(CONTROL))?;
        if self.existing == Existing::Replace {
            let stay: Vec<&str> = [MARKER, WAL].into_iter().chain(links.iter().map(String::as_str)).collect();
            empty(&self.target, &stay)?;
            for directory in places.values() {
                empty(directory, &[])?;
            }
            empty_wal(&self.target)?;
        }
        for directory in places.values() {
            create_private(directory)?;
        }
        // C18: links first, from what backup.json says, never from what an archive says.
        let links = self.target.join("pg_tblspc");
        create_private(&links)?;
        empty(&links, &[])?;
        for (oid, place) in places {
            symlink(place, links.join(oid.to_string())).map_err(Error::file("link tablespace", place))?;
        }
        Ok(())
    }
}

const WAL: &str = "pg_wal";

/// C31: a link of `pg_wal` to another disk stays, and what it leads to is emptied; a directory goes, and is made anew.
fn empty_wal(target: &Path) -> Result<(), Error> {
    let wal = target.join(WAL);
    match fs::symlink_metadata(&wal) {
        Ok(found) if found.is_symlink() && wal.is_dir() => empty(&wal, &[]),
        Ok(found) if found.is_dir() => fs::remove_dir_all(&wal).map_err(Error::file("remove", &wal)),
        _ => remove(&wal),
    }
}

/// The process of a server that runs in a data directory.
pub(super) fn running(directory: &Path) -> Option<i32> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    // A standalone backend writes its number with a minus sign.
    let pid = text.lines().next()?.trim().parse::<i32>().ok()?.abs();
    let alive = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    // Of another user it is alive, too.
    (pid > 0 && !matches!(alive, Err(nix::errno::Errno::ESRCH))).then_some(pid)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory, links themselves and not what they lead to.
fn empty(directory: &Path, except: &[&str]) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("look into", directory)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::file("look into", directory))?;
        if except.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::file("remove", path))?;
    }
    Ok(())
}

fn size_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The files of the target that are as the manifest says and need not be fetched. Everything that the backup does not
/// have is removed, whatever it is (C31): a directory of a replication slot without its files has the server panic.
pub(super) fn keep_what_is_right(
    target: &Path,
    expected: &HashMap<String, manifest::Expected>,
    combined: &HashSet<String>,
    links: &[String],
) -> Result<HashSet<String>, Error> {
    empty_wal(target)?;
    prune(target, "", &parents(expected))?;
    let mut found = Vec::new();
    walk(target, "", &mut found)?;
    let mut right = HashSet::new();
    let mut doubtful = Vec::new();
    for (name, path, size) in found {
        // What is put together from several backups has no checksum to compare with, and is put together anew.
        match expected.get(&name) {
            Some(file) if file.size == size && !combined.contains(&name) => {
                doubtful.push((size, name, path, file.crc32c.clone()));
            }
            _ if name == MARKER || links.contains(&name) => {}
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
        let broken = || Err(Error::Interrupted("a thread that compared files broke off".into()));
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
fn prune(directory: &Path, prefix: &str, parents: &HashSet<&str>) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("look into", directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("look into", directory))?;
        let (path, name) = (entry.path(), to_text(entry.file_name().as_bytes()));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(Error::file("look at", &path))?;
        let is_tablespace = kind.is_symlink() && prefix == "pg_tblspc";
        if is_tablespace || (kind.is_dir() && (parents.contains(name.as_str()) || name == "pg_tblspc")) {
            prune(&path, &name, parents)?;
        } else if kind.is_dir() {
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Files below a data directory by their paths in the manifest, over the links of tablespaces too.
fn walk(directory: &Path, prefix: &str, found: &mut Vec<(String, PathBuf, u64)>) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("look into", directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("look into", directory))?;
        let (path, name) = (entry.path(), to_text(entry.file_name().as_bytes()));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(Error::file("look at", &path))?;
        if name == WAL {
            continue;
        }
        if kind.is_dir() || (kind.is_symlink() && prefix == "pg_tblspc") {
            walk(&path, &name, found)?;
        } else {
            let size = entry.metadata().map_err(Error::file("look at", &path))?.len();
            found.push((name, path, size));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_a_server_that_runs_is_seen_and_one_that_died_is_not() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running(directory.path()), None);
        let me = std::process::id().cast_signed();
        fs::write(directory.path().join("postmaster.pid"), format!("{me}\n")).unwrap();
        assert_eq!(running(directory.path()), Some(me));
        fs::write(directory.path().join("postmaster.pid"), "4194999\n").unwrap();
        assert_eq!(running(directory.path()), None);
    }
}
