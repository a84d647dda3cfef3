//! A directory of this machine, or a mounted share.
//!
//! C1: an object is written under a temporary name, fsynced, renamed, and its directory fsynced. A failed fsync is a
//! failure and is not tried again: the kernel may already have dropped the pages.

use super::{ObjectWriter, Storage};
use crate::Error;
use async_trait::async_trait;
use std::{
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
};

/// How the name of an unfinished object ends.
const UNFINISHED: &str = ".unfinished";

/// Objects as files below a root directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Objects below `root`, which is created (mode 0700) when something is first stored.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
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
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.{}{UNFINISHED}", uuid::Uuid::now_v7().simple()));
        let opened = {
            let (path, temporary) = (path.clone(), temporary.clone());
            blocking(move || {
                if let Some(directory) = path.parent() {
                    create_directories(directory)?;
                }
                std::fs::File::options().write(true).create_new(true).open(&temporary)
            })
            .await
        };
        match opened {
            Ok(file) => {
                let mut file = File::from_std(file);
                file.set_max_buf_size(1 << 20);
                Ok(Box::new(Writer { file, temporary: Some(temporary), path }))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let path = self.path(key);
        let mut file = File::open(&path).await.map_err(Error::storage("open", path.display().to_string()))?;
        file.set_max_buf_size(1 << 20);
        Ok(Box::new(file))
    }

    async fn stat(&self, key: &str) -> Result<Option<u64>, Error> {
        let path = self.path(key);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("look at", path.display().to_string())(error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (root, start) = (self.root.clone(), self.path(prefix));
        let failed = Error::storage("list", start.display().to_string());
        let keys = blocking(move || {
            let mut keys = Vec::new();
            walk(&start, &mut |path| {
                if !is_unfinished(path) {
                    keys.extend(path.strip_prefix(&root).ok().map(|key| key.to_string_lossy().into_owned()));
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
            let mut names: Vec<_> = entries(&directory)?
                .iter()
                .filter(|path| !is_unfinished(path))
                .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
                .collect();
            names.sort();
            Ok(names)
        });
        names.await.map_err(failed)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let (root, path) = (self.root.clone(), self.path(key));
        let failed = Error::storage("remove", path.display().to_string());
        let done = blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut directory = path.parent();
            // A directory goes with its last object; one that is not empty refuses, which ends the walk.
            while let Some(parent) = directory.filter(|parent| *parent != root && parent.starts_with(&root)) {
                if std::fs::remove_dir(parent).is_err() {
                    return sync_directory(parent)
                        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
                }
                directory = parent.parent();
            }
            Ok(())
        });
        done.await.map_err(failed)
    }

    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
        let start = self.path(prefix);
        let failed = Error::storage("clean up", start.display().to_string());
        let done = blocking(move || {
            let mut removed = 0;
            walk(&start, &mut |path| {
                if is_unfinished(path) {
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

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') && name.ends_with(UNFINISHED)
    })
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
fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let Some(parent) = directory.parent() else { return Ok(()) };
    create_directories(parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// A file that is renamed into place when it is finished, and removed when it is not.
struct Writer {
    file: File,
    temporary: Option<PathBuf>,
    path: PathBuf,
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn finish(mut self: Box<Self>) -> Result<u64, Error> {
        let failed = Error::storage("store", self.path.display().to_string());
        let finish = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            let size = self.file.metadata().await?.len();
            if let Some(temporary) = &self.temporary {
                let (temporary, path) = (temporary.clone(), self.path.clone());
                blocking(move || {
                    std::fs::rename(&temporary, &path)?;
                    path.parent().map_or(Ok(()), sync_directory)
                })
                .await?;
            }
            Ok(size)
        };
        let size = finish.await.map_err(failed)?;
        self.temporary = None;
        Ok(size)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // One that stays is found by `delete_unfinished`.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.file).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(storage: &Local, key: &str) -> String {
        let mut text = String::new();
        storage.open(key).await.unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn an_object_exists_only_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Local::new(&directory.path().join("not/yet/there"));
        let mut writer = storage.create("a/b/object").await.unwrap();
        writer.write_all(b"hello").await.unwrap();
        assert_eq!(storage.stat("a/b/object").await.unwrap(), None);
        assert!(storage.list("").await.unwrap().is_empty());
        assert_eq!(writer.finish().await.unwrap(), 5);
        assert_eq!(storage.list("").await.unwrap(), ["a/b/object"]);
        assert_eq!(read(&storage, "a/b/object").await, "hello");
        assert_eq!(storage.names("a").await.unwrap(), ["b"]);
    }

    #[tokio::test]
    async fn a_dropped_writer_leaves_nothing_and_a_dead_one_is_cleaned_up() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Local::new(directory.path());
        let mut writer = storage.create("x/dropped").await.unwrap();
        writer.write_all(b"half").await.unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(directory.path().join("x")).unwrap().count(), 0);
        let dead = storage.create("x/dead").await.unwrap();
        std::mem::forget(dead);
        assert_eq!(storage.delete_unfinished("x").await.unwrap(), 1);
        assert!(!directory.path().join("x").exists());
    }

    #[tokio::test]
    async fn removing_takes_empty_directories_along_and_is_idempotent() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Local::new(directory.path());
        for key in ["c/one", "c/d/two"] {
            storage.create(key).await.unwrap().finish().await.unwrap();
        }
        storage.delete("c/d/two").await.unwrap();
        storage.delete("c/d/two").await.unwrap();
        assert!(!directory.path().join("c/d").exists());
        assert_eq!(storage.list("").await.unwrap(), ["c/one"]);
    }

    #[tokio::test]
    async fn errors_name_the_object() {
        let storage = Local::new(Path::new("/proc/nowhere"));
        let error = storage.create("object").await.err().unwrap();
        assert_eq!(error.to_string(), "create /proc/nowhere/object");
    }
}
