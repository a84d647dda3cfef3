//! Who is at work in the places of a restore (C17): servers by their processes and by their answers, other restores by a lock.

use super::{Existing, Restore, prepare::MARKER, served};
use crate::Error;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File, Metadata},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A server whose processes are on this machine.
#[derive(Debug)]
pub(super) struct Living {
    /// One of its processes.
    pub pid: i32,
    /// Its data directory, by its process.
    data: PathBuf,
}

impl Living {
    /// The servers on this machine whose processes may be checked: those of this user; for root, all. PostgreSQL's processes are in
    /// their data directory, whatever became of its `postmaster.pid`.
    pub fn all() -> Vec<Self> {
        let mut seen = std::collections::BTreeSet::new();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let servers = pids.filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            ["postgres", "postmaster"].contains(&name.trim()).then_some(())?;
            let data = PathBuf::from(format!("/proc/{pid}/cwd"));
            seen.insert(identity(&fs::metadata(&data).ok()?)).then_some(Self { pid, data })
        });
        servers.collect()
    }

    /// Whether this is its data directory.
    pub fn runs_in(&self, directory: &Path) -> bool {
        is_same(&self.data, directory)
    }

    /// Whether one of its tablespaces is here. Those of several versions share a directory, each with its own in it.
    pub fn has_tablespace(&self, directory: &Path, major: u32) -> bool {
        if self.major().is_some_and(|own| own != major) {
            return false;
        }
        let links = fs::read_dir(self.data.join("pg_tblspc")).into_iter().flatten().flatten();
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        let mut places = links.filter_map(|link| fs::read_link(link.path()).ok());
        places.any(|place| is_same(&root.join(place.strip_prefix("/").unwrap_or(&place)), directory))
    }

    /// The major version of its files.
    fn major(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Its data directory as a person knows it.
    pub fn place(&self) -> String {
        fs::read_link(&self.data).unwrap_or_else(|_| self.data.clone()).display().to_string()
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|found| identity(&found)).ok();
    of(one).is_some_and(|one| Some(one) == of(other))
}

/// The process of a server that runs in a data directory.
pub(super) fn running(directory: &Path, living: &[Living]) -> Option<i32> {
    living.iter().find(|server| server.runs_in(directory)).map(|server| server.pid).or_else(|| {
        let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
        // A standalone backend writes its number with a minus sign.
        let pid = text.lines().next()?.trim().parse::<i32>().ok()?.abs();
        let alive = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
        // Of another user it is alive, too; and in another container the number is another's, while the server may live.
        (pid > 0 && !matches!(alive, Err(nix::errno::Errno::ESRCH))).then_some(pid)
    })
}

/// A target that is this restore's alone, as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    marker: PathBuf,
    /// Held by its lock; where the file system has none, by its file alone.
    file: File,
    _lock: Option<Flock<File>>,
}

impl Claim {
    /// Marks a directory that is there as one in which a restore was begun.
    ///
    /// # Errors
    /// [`Error::Refused`] while another restore into it is at work, also one that was stopped in its tracks.
    pub fn take(target: &Path, label: &str) -> Result<Self, Error> {
        let marker = target.join(MARKER);
        let failed = || Error::file("write", &marker);
        loop {
            let mut options = fs::OpenOptions::new();
            let options = options.create(true).truncate(false).write(true).read(true);
            let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&marker).map_err(failed())?;
            let second = file.try_clone().map_err(failed())?;
            let lock = match Flock::lock(second, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => Some(lock),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    let by = fs::read_to_string(&marker).unwrap_or_default();
                    let by = by.lines().nth(1).unwrap_or_default();
                    return Err(Error::Refused(format!(
                        "another restore into {} is running{by}: wait for it, or end it",
                        target.display()
                    )));
                }
                Err((_, error)) => {
                    tracing::warn!("{} cannot be locked against other restores: {error}", marker.display());
                    None
                }
            };
            let claim = Self { marker: marker.clone(), file, _lock: lock };
            // The one before may have ended, and removed it, in between.
            if claim.is_held() {
                let words = format!("{label}\n (process {})\n", std::process::id());
                claim.file.set_len(0).and_then(|()| (&claim.file).write_all(words.as_bytes())).map_err(failed())?;
                return Ok(claim);
            }
        }
    }

    fn is_held(&self) -> bool {
        let ours = self.file.metadata().map(|found| identity(&found)).ok();
        ours.is_some() && ours == fs::symlink_metadata(&self.marker).map(|found| identity(&found)).ok()
    }

    /// # Errors
    /// [`Error::Refused`] where somebody took the directory away from this restore.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_held() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "{} is gone: something else changed this directory. Start the restore again",
            self.marker.display()
        )))
    }

    /// The restore is complete.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn end(self) -> Result<(), Error> {
        fs::remove_file(&self.marker).map_err(Error::file("remove", &self.marker))
    }
}

impl Restore {
    /// What only servers can tell: none of those that are known runs from the target, and the original takes no writes while another
    /// takes its place, which would archive under its name.
    pub(super) async fn check_servers(&self) -> Result<(), Error> {
        if let Some(host) = served::served_by(&self.target, &self.servers).await {
            return Err(Error::Refused(format!(
                "the server at {host} runs from {} (its start time and port match): stop it first",
                self.target.display()
            )));
        }
        if !self.in_place || self.recovery.as_ref().is_some_and(|recovery| recovery.standby) {
            return Ok(());
        }
        match served::primary_of(&self.info.system_id, self.original.as_ref()).await {
            None => Ok(()),
            Some(host) => Err(Error::Refused(format!(
                "the server at {host} is the original and takes writes: it cannot be replaced while it does. Stop it first, or \
                 restore a copy with --beside"
            ))),
        }
    }

    /// Makes the target this restore's own, where it is still as it was found.
    pub(super) fn claim(&self) -> Result<Claim, Error> {
        let claim = Claim::take(&self.target, &self.info.label)?;
        if let Some(pid) = running(&self.target, &Living::all()) {
            claim.end()?;
            return Err(Error::Refused(format!(
                "a PostgreSQL server was started in {} in the meantime (process {pid})",
                self.target.display()
            )));
        }
        let others =
            || fs::read_dir(&self.target).map(|found| found.flatten().any(|entry| entry.file_name() != MARKER));
        if self.existing == Existing::Refuse && others().map_err(Error::file("list", &self.target))? {
            claim.end()?;
            let words = format!("{} is no longer empty: something else writes there", self.target.display());
            return Err(Error::Refused(words));
        }
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn c17_a_server_that_runs_is_seen_and_one_that_died_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let running = |directory: &Path| running(directory, &Living::all());
        assert_eq!(running(directory.path()), None);
        let pid = directory.path().join("postmaster.pid");
        let mut there = Command::new("sleep").arg("60").current_dir(directory.path()).spawn().unwrap();
        fs::write(&pid, format!("{}\n", there.id())).unwrap();
        assert_eq!(running(directory.path()), Some(there.id().cast_signed()));
        fs::write(&pid, "4194999\n").unwrap();
        assert_eq!(running(directory.path()), None);
        there.kill().unwrap();
        there.wait().unwrap();
        // Without that file a server is known by where its processes are.
        fs::remove_file(&pid).unwrap();
        let named = directory.path().join("postgres");
        fs::copy("/bin/sleep", &named).unwrap();
        fs::create_dir_all(directory.path().join("data/pg_tblspc")).unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("data/pg_tblspc/1")).unwrap();
        let mut server = Command::new(named).arg("60").current_dir(directory.path().join("data")).spawn().unwrap();
        let living = || Living::all().into_iter().find(|known| known.pid == server.id().cast_signed());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let seen = loop {
            // It is this program until it is that one.
            if let Some(seen) = living() {
                break seen;
            }
            assert!(std::time::Instant::now() < deadline);
        };
        assert_eq!(running(&directory.path().join("data")), Some(server.id().cast_signed()));
        assert!(seen.has_tablespace(directory.path(), 15) && !seen.has_tablespace(Path::new("/"), 15));
        server.kill().unwrap();
        server.wait().unwrap();
    }

    #[test]
    fn c17_one_restore_at_a_time_into_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = Claim::take(directory.path(), "one").unwrap();
        let said = Claim::take(directory.path(), "two").unwrap_err().to_string();
        assert!(
            said.contains("another restore") && said.contains(&format!("(process {})", std::process::id())),
            "{said}"
        );
        first.check().unwrap();
        // One that died is no hindrance.
        drop(first);
        let second = Claim::take(directory.path(), "two").unwrap();
        fs::remove_file(directory.path().join(MARKER)).unwrap();
        assert!(second.check().unwrap_err().to_string().contains("is gone"));
        let third = Claim::take(directory.path(), "three").unwrap();
        assert!(second.check().is_err());
        third.end().unwrap();
        assert!(!directory.path().join(MARKER).exists());
    }
}
