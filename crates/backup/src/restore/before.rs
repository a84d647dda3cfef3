//! What must hold before the first byte of a restore (C17): nothing that can be known then fails after hours of it.

use super::{
    Assembly, Existing, Restore,
    living::{Living, running},
    prepare::MARKER,
};
use crate::{Error, wal::system_identifier};
use nix::unistd::{AccessFlags, access, geteuid};
use pgbosun_core::human;
use pgbosun_repository::{ObjectKind, TablespaceInfo};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{
        self,
        ErrorKind::{NotADirectory, NotFound},
    },
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

impl Restore {
    /// Where each tablespace goes.
    pub(super) fn places(&self) -> Result<BTreeMap<u32, PathBuf>, Error> {
        for (old, place) in self.confinement().moved {
            if self.recovery.as_ref().is_none_or(|recovery| recovery.standby) {
                let known: Vec<_> = self.info.tablespaces.iter().map(|space| space.location.as_str()).collect();
                return Err(Error::Refused(format!(
                    "backup {} has no tablespace at {old}, only: {}. A tablespace that was created later can only be moved if \
                     recovery reads the archive to its end, which a standby does not",
                    self.info.label,
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )));
            }
            if fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(Error::Refused(format!("{}, the target of a tablespace, is not empty", place.display())));
            }
        }
        let spaces = self.info.tablespaces.iter();
        let place =
            |space: &TablespaceInfo| self.tablespaces.get(&space.location).cloned().unwrap_or_else(|| space.place());
        Ok(spaces.map(|space| (space.oid, place(space))).collect())
    }

    /// C17: never over a running server, and over what is there only when told to.
    pub(super) fn check_target(&self, places: &BTreeMap<u32, PathBuf>) -> Result<(), Error> {
        let living = Living::all();
        for (index, directory) in std::iter::once(&self.target).chain(places.values()).enumerate() {
            let mut entries = match fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) if matches!(error.kind(), NotFound | NotADirectory) => continue,
                Err(error) => return Err(Error::file("list", directory)(error)),
            };
            if entries.next().is_none() {
                continue;
            }
            let shown = directory.display();
            if let Some(pid) = running(directory, &living) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let stale = match name.trim() {
                    "" | "postgres" | "postmaster" => String::new(),
                    name => format!(
                        ". Its postmaster.pid says so, but that process is now {name}: if no server runs there, not even in a \
                         container, remove that file"
                    ),
                };
                return Err(Error::Refused(format!(
                    "a PostgreSQL server runs in {shown} (process {pid}): stop it first{stale}"
                )));
            }
            if let Some(server) =
                living.iter().find(|server| index > 0 && server.has_tablespace(directory, self.info.major()))
            {
                return Err(Error::Refused(format!(
                    "{shown} is a tablespace of the PostgreSQL server that runs in {} (process {}): choose another place with \
                     --tablespace OLD=NEW, or stop it first",
                    server.place(),
                    server.pid
                )));
            }
            let ours = ["PG_VERSION", MARKER].iter().any(|name| directory.join(name).exists());
            let whose = system_identifier(directory).ok().filter(|whose| index == 0 && *whose != self.info.system_id);
            if let Some(whose) = whose {
                return Err(Error::Refused(format!(
                    "{shown} is the data directory of another server, with system identifier {whose}; the backup is from {}. \
                     If nobody needs it, move it away or empty it",
                    self.info.system_id
                )));
            }
            if index == 0 && !ours {
                let left = match directory.join("pg_wal").exists() {
                    true => ". Its pg_wal may be the only copy of the last commits: move it away and keep it",
                    false => "",
                };
                return Err(Error::Refused(format!(
                    "{shown} is neither empty nor a data directory: its contents are not replaced{left}"
                )));
            }
            // A tablespace's directory is replaced only where it is this target's: the original's may lie there, and live.
            let linked = fs::read_dir(self.target.join("pg_tblspc")).into_iter().flatten().flatten();
            let own = linked.filter_map(|link| link.path().canonicalize().ok()).collect::<Vec<_>>();
            // Of a data directory that is lost in its place the tablespaces may be all that is left.
            let left = self.in_place
                && !self.target.join("pg_tblspc").exists()
                && self.info.tablespaces.iter().any(|space| space.place() == *directory);
            if index > 0 && !left && !directory.canonicalize().is_ok_and(|place| own.contains(&place)) {
                return Err(Error::Refused(format!(
                    "the tablespace directory {shown} is not empty and not a tablespace of {}: nothing in it is replaced; \
                     choose another place with --tablespace OLD=NEW, or empty it first",
                    self.target.display()
                )));
            }
            if self.existing == Existing::Refuse {
                return Err(Error::Refused(format!(
                    "{shown} is not empty: restore into an empty directory, or use --delta (keep what is right) or --force \
                     (replace everything)"
                )));
            }
        }
        Ok(())
    }

    /// Each directory can be made or written into, and will belong to whoever starts the server: PostgreSQL takes no other. Those of
    /// tablespaces that recovery creates are no exception: it would stop there, after hours. C29: none lies below what belongs to a
    /// server or is a repository: files that nobody expects there end up in its backups, and are removed with it.
    pub(super) fn check_access(&self, places: &BTreeMap<u32, PathBuf>) -> Result<(), Error> {
        let user = geteuid();
        let owner = nix::unistd::User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
        let later = self.confinement().moved;
        let own = resolved(&self.target, existing_part(&self.target));
        let mut taken = BTreeSet::new();
        for directory in std::iter::once(&self.target).chain(places.values()).chain(later.values()) {
            let leads_nowhere = |path: &&Path| path.is_symlink() && !path.exists();
            if let Some(link) = directory.ancestors().find(leads_nowhere) {
                let (shown, link) = (directory.display(), link.display());
                return Err(Error::Refused(format!("{shown} cannot be created: {link} is a link that leads nowhere")));
            }
            let there = existing_part(directory);
            let resolved = resolved(directory, there);
            let mut around = resolved.ancestors().skip(1).filter(|above| **above != own);
            if let Some((above, what)) = around.find_map(|above| Some((above, occupied(above)?))) {
                return Err(Error::Refused(format!(
                    "{} is inside {}, which is {what}: choose a place outside it",
                    directory.display(),
                    above.display()
                )));
            }
            if !taken.insert(resolved) {
                return Err(Error::Refused(format!(
                    "two things would be restored into {}: each tablespace needs a directory of its own",
                    directory.display()
                )));
            }
            let found = fs::metadata(there).map_err(Error::file("inspect", there))?;
            let (shown, place) = (directory.display(), there.display());
            if !found.is_dir() {
                return Err(Error::Refused(format!("{shown} cannot be created: {place} is not a directory")));
            }
            if there == directory && found.uid() != user.as_raw() && !user.is_root() {
                return Err(Error::Refused(format!(
                    "{shown} does not belong to {owner}, who runs this restore: PostgreSQL would not start from it. Run chown \
                     {owner} {shown}, or restore as its owner"
                )));
            }
            if let Err(error) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
                return Err(Error::Refused(format!(
                    "{owner} may not write into {place}: {}. As root: install -d -o {owner} -m 700 {shown}",
                    io::Error::from(error)
                )));
            }
        }
        Ok(())
    }

    /// Each file system must have room for what goes there; what is there and is replaced counts as room.
    pub(super) fn check_space(&self, places: &BTreeMap<u32, PathBuf>, assembly: &Assembly) -> Result<(), Error> {
        let wal = self.target.join("pg_wal");
        let directories = || places.values().chain([&self.target, &wal]);
        // C31: on another disk it stays there.
        let device = |directory: &Path| {
            let there = existing_part(directory);
            fs::metadata(there).map(|found| found.dev()).map_err(Error::file("inspect", there))
        };
        let mut room: BTreeMap<u64, (&Path, u64, u64)> = BTreeMap::new();
        for directory in directories() {
            let entry = room.entry(device(directory)?).or_insert((directory, 0, 0));
            entry.1 += if self.existing == Existing::Refuse { 0 } else { size_below(directory, &wal) };
        }
        for (kind, size) in assembly.sizes() {
            let into = match kind {
                ObjectKind::Tablespace(oid) => places.get(&oid).unwrap_or(&self.target),
                ObjectKind::Wal => &wal,
                _ => &self.target,
            };
            if let Some((_, _, need)) = room.get_mut(&device(into)?) {
                *need += size;
            }
        }
        for (directory, occupied, need) in room.into_values() {
            let there = existing_part(directory);
            let stat =
                nix::sys::statvfs::statvfs(there).map_err(|errno| Error::file("measure", there)(errno.into()))?;
            let free = stat.blocks_available() * stat.fragment_size() + occupied;
            if free < need {
                return Err(Error::Refused(format!(
                    "{} has {} free, but the restore needs {} there",
                    there.display(),
                    human::size(free),
                    human::size(need)
                )));
            }
        }
        Ok(())
    }
}

/// What a directory is, where nothing of another may go below it.
fn occupied(directory: &Path) -> Option<&'static str> {
    if directory.join("PG_VERSION").exists() {
        return Some("a data directory");
    }
    if directory.join("pgbosun.json").exists() {
        return Some("a repository");
    }
    // `PG_15_202209061`, as PostgreSQL names what it has in a tablespace.
    let (major, catalog) = directory.file_name()?.to_str()?.strip_prefix("PG_")?.split_once('_')?;
    let number = |word: &str| word.parse::<u32>().is_ok();
    (number(major) && number(catalog)).then_some("the tablespace directory of a server")
}

/// The directory, or what exists of the path to it.
fn existing_part(directory: &Path) -> &Path {
    directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Where a directory is or will be, whichever of its names was said.
fn resolved(directory: &Path, there: &Path) -> PathBuf {
    let missing = directory.strip_prefix(there).unwrap_or(directory);
    there.canonicalize().unwrap_or_else(|_| there.to_owned()).components().chain(missing.components()).collect()
}

/// What the files below a directory have, but for those below `except`.
fn size_below(directory: &Path, except: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && entry.path() != except => size_below(&entry.path(), except),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c29_what_belongs_to_a_server_or_is_a_repository_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let space = directory.path().join("space/PG_15_202209061");
        fs::create_dir_all(&space).unwrap();
        assert_eq!(occupied(&space), Some("the tablespace directory of a server"));
        assert_eq!((occupied(directory.path()), occupied(Path::new("/PG_x_1"))), (None, None));
        for (file, what) in [("pgbosun.json", "a repository"), ("PG_VERSION", "a data directory")] {
            fs::write(directory.path().join(file), "").unwrap();
            assert_eq!(occupied(directory.path()), Some(what));
        }
    }
}
