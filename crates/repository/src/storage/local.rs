//! A directory of this machine, or a mounted share.
//!
//! An unfinished object is locked by its writer (flock(2)), so that one whose writer is dead is known for what it is.
//!
//! C36: whoever may write into the directory decides nothing outside of it: everything goes through [`super::tree`].
//!
//! C1: an object is written under a temporary name, fsynced, renamed, and its directory fsynced. A failed fsync is a
//! failure and is not tried again: the kernel may already have dropped the pages.

use super::{ObjectWriter, Stat, Storage, Store, is_unfinished, own, temporary_name, tree};
use crate::Error;
use async_trait::async_trait;
use bytes::Bytes;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag};
use pgbosun_core::{
    config::{Reader, Section, StoreOptions, Variant},
    faults, options, unit,
};
use std::{
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{fs::File, io::AsyncRead};

options! {
    /// In a directory of this machine, or of a mounted share.
    pub struct LocalOptions {
        /// The directory. It is created with mode 0700 if it is missing.
        path: PathBuf;
        /// Make directories durable too. Set it to `false` for mounts that cannot do this, such as CIFS.
        sync_directories: bool = "true";
    }
}

impl StoreOptions for LocalOptions {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn shown(&self) -> String {
        self.place()
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

pub(super) const STORE: Store = Store {
    variant: Variant {
        name: "local",
        about: LocalOptions::ABOUT,
        options: LocalOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| Some(Arc::new(LocalOptions::read(reader)?)),
    },
    open: |repository, mark| {
        let LocalOptions { path, sync_directories } = own(repository)?;
        if let Some(why) = unit::hides(path) {
            return Some(Err(format!("this process cannot see the machine's {}: {why}", path.display())));
        }
        let directories = if *sync_directories { Directories::Synced } else { Directories::Unsynced };
        Some(Ok(Arc::new(Local { mark, ..Local::new(path, directories) })))
    },
};

/// Objects as files below a root directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    directories: Directories,
    /// Until this is there nothing else is stored: a share that is unmounted leaves its mount point behind.
    mark: Option<&'static str>,
}

/// Whether directories can be made durable: a CIFS mount refuses, and makes them durable itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directories {
    /// They are fsynced.
    Synced,
    /// The mount cannot.
    Unsynced,
}

impl Local {
    /// Objects below `root`, which is created (mode 0700) when something is first stored.
    pub fn new(root: &Path, directories: Directories) -> Self {
        Self { root: root.to_owned(), directories, mark: None }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Removes the unfinished objects below a prefix for which `dead` holds.
    async fn clean(&self, prefix: &str, dead: fn(&dyn AsFd, &str) -> bool) -> Result<u64, Error> {
        let (root, key) = (self.root.clone(), prefix.to_owned());
        let failed = Error::storage("clean up", self.path(prefix).display().to_string());
        let done = blocking(move || {
            let mut removed = 0;
            tree::walk(&root, &key, &mut |parent, name, _| {
                if is_unfinished(name) && dead(&parent, name) {
                    tree::remove(parent, name)?;
                    removed += 1;
                }
                Ok(())
            })?;
            if !key.is_empty()
                && let Ok((parent, name)) = tree::open_parent(&root, &key)
            {
                let _ = tree::remove_directory(parent, &name);
            }
            Ok(removed)
        });
        done.await.map_err(failed)
    }
}

/// Runs blocking file work away from the scheduler's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[async_trait]
impl Storage for Local {
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error> {
        let path = self.path(key);
        let failed = Error::storage("create", path.display().to_string());
        let (root, key, directories) = (self.root.clone(), key.to_owned(), self.directories);
        let mark = self.mark.filter(|mark| *mark != key);
        let first_wins = self.mark == Some(key.as_str());
        let opened = blocking(move || {
            if let Some(mark) = mark.filter(|mark| !root.join(mark).exists()) {
                let reason = format!("{} is not there: is the share mounted?", root.join(mark).display());
                return Err(io::Error::new(io::ErrorKind::StaleNetworkFileHandle, reason));
            }
            create_directories(&root, directories)?;
            let (parent, name) = tree::create_parents(&root, &key, &|parent| sync(parent, directories))?;
            let temporary = temporary_name(&name);
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            // What others may read is for umask(2) to say.
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            let file = std::fs::File::from(nix::fcntl::openat(&parent, temporary.as_str(), flags, mode)?);
            // A file system without locks has none; then only its caller can know what is dead.
            let lock = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock).ok();
            // From here on it is removed, even where nobody waits for this any more.
            let temporary = Temporary { parent: Arc::new(parent), name: Some(temporary), _lock: lock };
            Ok((file, temporary, name))
        })
        .await;
        let (file, temporary, name) = opened.map_err(failed)?;
        faults::die(faults::OBJECT_CREATED);
        Ok(Box::new(Writer { file: Arc::new(file), temporary, name, path, directories, first_wins }))
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let path = self.path(key);
        let (root, key) = (self.root.clone(), key.to_owned());
        let opened = blocking(move || {
            let (parent, name) = tree::open_parent(&root, &key)?;
            tree::open_file(parent, &name, OFlag::O_RDONLY)
        });
        let mut file = File::from_std(opened.await.map_err(Error::storage("open", path.display().to_string()))?);
        file.set_max_buf_size(1 << 20);
        Ok(Box::new(file))
    }

    async fn settle(&self, key: &str) -> Result<(), Error> {
        let (root, key, directories) = (self.root.clone(), key.to_owned(), self.directories);
        let failed = Error::storage("sync", self.path(&key).display().to_string());
        let done = blocking(move || {
            let (way, name) = tree::open_parents(&root, &key)?;
            tree::open_file(way.last().unwrap_or(&way[0]), &name, OFlag::O_RDONLY)?.sync_all()?;
            way.iter().rev().try_for_each(|parent| sync(parent, directories))
        });
        done.await.map_err(failed)
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
        let path = self.path(key);
        let (root, key) = (self.root.clone(), key.to_owned());
        let stat = blocking(move || {
            let (parent, name) = tree::open_parent(&root, &key)?;
            tree::stat_file(parent, &name)
        });
        match stat.await {
            Ok(stat) => {
                let modified = Some(stat.st_mtime * 1000 + stat.st_mtime_nsec / 1_000_000);
                Ok(Some(Stat { size: u64::try_from(stat.st_size).unwrap_or(0), modified }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("inspect", path.display().to_string())(error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let failed = Error::storage("list", self.path(&prefix).display().to_string());
        let keys = blocking(move || {
            let mut keys = Vec::new();
            tree::walk(&root, &prefix, &mut |parent, name, key| {
                if !is_unfinished(name) {
                    keys.push((key, u64::try_from(tree::stat(parent, name)?.st_size).unwrap_or(0)));
                }
                Ok(())
            })?;
            keys.sort();
            Ok(keys)
        });
        keys.await.map_err(failed)
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let failed = Error::storage("list", self.path(&prefix).display().to_string());
        let names = blocking(move || {
            let mut names = tree::names(&root, &prefix)?;
            names.retain(|name| !is_unfinished(name));
            names.sort();
            Ok(names)
        });
        names.await.map_err(failed)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let (root, key, directories) = (self.root.clone(), key.to_owned(), self.directories);
        let failed = Error::storage("remove", self.path(&key).display().to_string());
        let done = blocking(move || {
            let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            let (way, name) = match tree::open_parents(&root, &key) {
                Err(error) if absent(&error) => return Ok(()),
                opened => opened?,
            };
            match way.last().map(|parent| tree::remove(parent, &name)) {
                Some(Err(error)) if !absent(&error) => return Err(error),
                _ => faults::die(faults::OBJECT_REMOVED),
            }
            // A directory goes with its last object; one that is not empty refuses, which ends the walk.
            let parts = tree::parts(&key)?;
            for at in (1..way.len()).rev() {
                if tree::remove_directory(&way[at - 1], parts[at - 1]).is_err() {
                    return sync(&way[at], directories);
                }
            }
            Ok(())
        });
        done.await.map_err(failed)
    }

    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
        self.clean(prefix, |_, _| true).await
    }

    async fn sweep(&self, prefix: &str) -> Result<u64, Error> {
        self.clean(prefix, is_dead).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, Error> {
        let root = self.root.clone();
        let failed = Error::storage("measure free space of", root.display().to_string());
        let free = blocking(move || {
            let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
            let stat = nix::sys::statvfs::statvfs(existing)?;
            Ok(stat.blocks_available() * stat.fragment_size())
        });
        free.await.map(Some).map_err(failed)
    }
}

/// Creates what is missing of a path, durably.
fn create_directories(directory: &Path, directories: Directories) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let Some(parent) = directory.parent() else { return Ok(()) };
    create_directories(parent, directories)?;
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent, directories),
    }
}

fn sync_directory(directory: &Path, directories: Directories) -> io::Result<()> {
    sync(std::fs::File::open(directory)?, directories)
}

fn sync(directory: impl AsFd, directories: Directories) -> io::Result<()> {
    match nix::unistd::fsync(directory).map_err(io::Error::from) {
        _ if directories == Directories::Unsynced => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOTSUP)) => {
            let hint = "this mount cannot sync directories: set sync-directories = false for this repository";
            Err(io::Error::new(error.kind(), format!("{error}; {hint}")))
        }
        other => other,
    }
}

/// An unfinished file, removed unless it got its name.
struct Temporary {
    parent: Arc<OwnedFd>,
    name: Option<String>,
    _lock: Option<Flock<std::fs::File>>,
}

/// True where no living process writes this unfinished object.
fn is_dead(parent: &dyn AsFd, name: &str) -> bool {
    let Ok(file) = tree::open_file(parent, name, OFlag::O_WRONLY) else { return false };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // One that stays is found by `delete_unfinished`.
            let _ = tree::remove(&self.parent, name);
        }
    }
}

/// A file that is renamed into place when it is finished, and removed when it is not.
struct Writer {
    file: Arc<std::fs::File>,
    temporary: Temporary,
    /// Its name to be.
    name: String,
    path: PathBuf,
    directories: Directories,
    /// Whoever stores it first wins.
    first_wins: bool,
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let written = blocking(move || (&*file).write_all(&data)).await;
        written.map_err(Error::storage("write", self.path.display().to_string()))
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, Error> {
        let failed = Error::storage("store", self.path.display().to_string());
        let (file, first_wins, directories) = (Arc::clone(&self.file), self.first_wins, self.directories);
        let (parent, temporary) = (Arc::clone(&self.temporary.parent), self.temporary.name.clone());
        let name = self.name.clone();
        let finish = blocking(move || {
            file.sync_all()?;
            let size = file.metadata()?.len();
            faults::die(faults::OBJECT_WRITTEN);
            if let Some(temporary) = temporary.as_deref() {
                let name = name.as_str();
                let link = || nix::unistd::linkat(&parent, temporary, &parent, name, AtFlags::empty());
                match first_wins.then(link) {
                    Some(Ok(())) => tree::remove(&parent, temporary)?,
                    Some(Err(nix::errno::Errno::EEXIST)) => return Err(io::ErrorKind::AlreadyExists.into()),
                    // Mounted shares may know no second name.
                    None | Some(Err(_)) => nix::fcntl::renameat(&parent, temporary, &parent, name)?,
                }
                sync(&parent, directories)?;
            }
            Ok(size)
        });
        let size = finish.await.map_err(failed)?;
        self.temporary.name = None;
        faults::die(faults::OBJECT_STORED);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_writer_is_cleaned_up_and_a_directory_goes_with_its_last_object() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Local::new(directory.path(), Directories::Synced);
        let alive = storage.create("x/alive").await.unwrap();
        assert_eq!(storage.sweep("").await.unwrap(), 0, "its writer lives");
        std::mem::forget(alive);
        std::fs::write(directory.path().join("x/.dead.1.unfinished"), "left").unwrap();
        assert_eq!(storage.sweep("").await.unwrap(), 1, "nobody holds its lock");
        assert_eq!(storage.delete_unfinished("x").await.unwrap(), 1);
        assert!(!directory.path().join("x").exists());
        storage.create("c/d/two").await.unwrap().finish().await.unwrap();
        storage.delete("c/d/two").await.unwrap();
        assert!(!directory.path().join("c").exists());
    }

    #[tokio::test]
    async fn errors_name_the_object() {
        let storage = Local::new(Path::new("/proc/nowhere"), Directories::Synced);
        let error = storage.create("object").await.err().unwrap();
        assert_eq!(error.to_string(), "create /proc/nowhere/object");
    }
}
