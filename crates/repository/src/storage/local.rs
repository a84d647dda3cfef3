//! A directory of this machine, or a mounted share.
//!
//! An unfinished object is locked by its writer (flock(2)), so that one whose writer is dead is known for what it is.
//!
//! C1: an object is written under a temporary name, fsynced, renamed, and its directory fsynced. A failed fsync is a
//! failure and is not tried again: the kernel may already have dropped the pages.

use super::{ObjectWriter, Stat, Storage, is_unfinished, temporary_name};
use crate::Error;
use async_trait::async_trait;
use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};
use pgbosun_core::faults;
use std::{
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{fs::File, io::AsyncRead};

/// Objects as files below a root directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    directories: Directories,
    /// Until this is there nothing else is stored: a share that is unmounted leaves its mount point behind.
    pub(super) mark: Option<&'static str>,
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
    async fn clean(&self, prefix: &str, dead: fn(&Path) -> bool) -> Result<u64, Error> {
        let start = self.path(prefix);
        let failed = Error::storage("clean up", start.display().to_string());
        let done = blocking(move || {
            let mut removed = 0;
            walk(&start, &mut |path| {
                if is_unfinished(&name_of(path)) && dead(path) {
                    std::fs::remove_file(path)?;
                    removed += 1;
                }
                Ok(())
            })?;
            let _ = std::fs::remove_dir(&start);
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
        let name = name_of(&path);
        let temporary = path.with_file_name(temporary_name(&name));
        let directories = self.directories;
        let mark = self.mark.filter(|mark| *mark != key).map(|mark| self.path(mark));
        let first_wins = self.mark == Some(key);
        let opened = {
            let (path, temporary) = (path.clone(), temporary.clone());
            blocking(move || {
                if let Some(mark) = mark.filter(|mark| !mark.exists()) {
                    let reason = format!("{} is not there: is the share mounted?", mark.display());
                    return Err(io::Error::new(io::ErrorKind::StaleNetworkFileHandle, reason));
                }
                if let Some(directory) = path.parent() {
                    create_directories(directory, directories)?;
                }
                let file = std::fs::File::options().write(true).create_new(true).open(&temporary)?;
                // A file system without locks has none; then only its caller can know what is dead.
                let lock = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock).ok();
                // From here on it is removed, even where nobody waits for this any more.
                Ok((file, Temporary { path: Some(temporary), _lock: lock }))
            })
            .await
        };
        let (file, temporary) = opened.map_err(failed)?;
        faults::die(faults::OBJECT_CREATED);
        Ok(Box::new(Writer { file: Arc::new(file), temporary, path, directories, first_wins }))
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let path = self.path(key);
        let mut file = File::open(&path).await.map_err(Error::storage("open", path.display().to_string()))?;
        file.set_max_buf_size(1 << 20);
        Ok(Box::new(file))
    }

    async fn settle(&self, key: &str) -> Result<(), Error> {
        let (root, path, directories) = (self.root.clone(), self.path(key), self.directories);
        let failed = Error::storage("sync", path.display().to_string());
        let done = blocking(move || {
            std::fs::File::open(&path)?.sync_all()?;
            let parents = path.ancestors().skip(1).take_while(|parent| parent.starts_with(&root));
            parents.into_iter().try_for_each(|parent| sync_directory(parent, directories))
        });
        done.await.map_err(failed)
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
        let path = self.path(key);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => {
                let modified = Some(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000);
                Ok(Some(Stat { size: metadata.len(), modified }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("look at", path.display().to_string())(error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let (root, start) = (self.root.clone(), self.path(prefix));
        let failed = Error::storage("list", start.display().to_string());
        let keys = blocking(move || {
            let mut keys = Vec::new();
            walk(&start, &mut |path| {
                if !is_unfinished(&name_of(path)) {
                    let size = std::fs::symlink_metadata(path)?.len();
                    keys.extend(path.strip_prefix(&root).ok().map(|key| (key.to_string_lossy().into_owned(), size)));
                }
                Ok(())
            })?;
            keys.sort();
            Ok(keys)
        });
        keys.await.map_err(failed)
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let directory = self.path(prefix);
        let failed = Error::storage("list", directory.display().to_string());
        let names = blocking(move || {
            let mut names: Vec<_> =
                entries(&directory)?.iter().map(|path| name_of(path)).filter(|name| !is_unfinished(name)).collect();
            names.sort();
            Ok(names)
        });
        names.await.map_err(failed)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let (root, path, directories) = (self.root.clone(), self.path(key), self.directories);
        let failed = Error::storage("remove", path.display().to_string());
        let done = blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => faults::die(faults::OBJECT_REMOVED),
            }
            let mut directory = path.parent();
            // A directory goes with its last object; one that is not empty refuses, which ends the walk.
            while let Some(parent) = directory.filter(|parent| *parent != root && parent.starts_with(&root)) {
                if std::fs::remove_dir(parent).is_err() {
                    return sync_directory(parent, directories)
                        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
                }
                directory = parent.parent();
            }
            Ok(())
        });
        done.await.map_err(failed)
    }

    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
        self.clean(prefix, |_| true).await
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

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The entries of a directory; what is not there, or no directory, has none.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for path in entries(directory)? {
        if path.is_dir() { walk(&path, visit)? } else { visit(&path)? }
    }
    Ok(())
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
    match std::fs::File::open(directory)?.sync_all() {
        _ if directories == Directories::Unsynced => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOTSUP)) => {
            let hint = "the mount cannot make directories durable: set sync-directories = false for this repository";
            Err(io::Error::new(error.kind(), format!("{error}; {hint}")))
        }
        other => other,
    }
}

/// An unfinished file, removed unless it got its name.
struct Temporary {
    path: Option<PathBuf>,
    _lock: Option<Flock<std::fs::File>>,
}

/// True where no living process writes this unfinished object.
fn is_dead(path: &Path) -> bool {
    let Ok(file) = std::fs::File::options().write(true).open(path) else { return false };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // One that stays is found by `delete_unfinished`.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that is renamed into place when it is finished, and removed when it is not.
struct Writer {
    file: Arc<std::fs::File>,
    temporary: Temporary,
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
        let (temporary, path) = (self.temporary.path.clone(), self.path.clone());
        let finish = blocking(move || {
            file.sync_all()?;
            let size = file.metadata()?.len();
            faults::die(faults::OBJECT_WRITTEN);
            if let Some(temporary) = temporary {
                match first_wins.then(|| std::fs::hard_link(&temporary, &path)) {
                    Some(Ok(())) => std::fs::remove_file(&temporary)?,
                    Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                    // Mounted shares may know no second name.
                    None | Some(Err(_)) => std::fs::rename(&temporary, &path)?,
                }
                path.parent().map_or(Ok(()), |parent| sync_directory(parent, directories))?;
            }
            Ok(size)
        });
        let size = finish.await.map_err(failed)?;
        self.temporary.path = None;
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
