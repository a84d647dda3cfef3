//! A directory tree into which somebody else may write: walked from descriptor to descriptor, never by whole paths.
//!
//! C36: no link below the root is followed, whoever exchanges what meanwhile; nothing is opened that is no plain file, so
//! that no FIFO, socket or device answers in its place; removal takes a link away and leaves what it leads to. The root
//! itself may be a link: the configuration names it.

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};
use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Directories within directories: our own layout has six.
pub(super) const DEPTH: usize = 32;

/// Entries of one walk or directory: memory is bounded whatever lies there.
pub(super) const ENTRIES: usize = 10_000_000;

/// Something lies where a plain file or a directory belongs.
#[derive(Debug, thiserror::Error)]
#[error("{name} is {kind}, which is never followed or opened; find out who put it there, then remove it")]
pub(crate) struct Foreign {
    name: String,
    kind: &'static str,
}

impl Foreign {
    pub fn new(name: &str, kind: &'static str) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

impl From<Foreign> for io::Error {
    fn from(foreign: Foreign) -> Self {
        Self::new(io::ErrorKind::InvalidData, foreign)
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn foreign(name: &str, kind: SFlag) -> io::Error {
    let words = match kind {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFDIR => "a directory",
        _ => "a device",
    };
    Foreign::new(name, words).into()
}

/// The names on the way to a key. A key leads down, whoever made it up.
pub(crate) fn parts(key: &str) -> io::Result<Vec<&str>> {
    let parts: Vec<_> = key.split('/').filter(|_| !key.is_empty()).collect();
    if parts.len() > DEPTH || parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a valid object name"));
    }
    Ok(parts)
}

/// What lies under a name, without following it.
pub(super) fn stat(parent: impl AsFd, name: &str) -> io::Result<FileStat> {
    Ok(fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// What is known of a plain file.
pub(super) fn stat_file(parent: impl AsFd, name: &str) -> io::Result<FileStat> {
    let stat = stat(parent, name)?;
    if kind(&stat) == SFlag::S_IFREG { Ok(stat) } else { Err(foreign(name, kind(&stat))) }
}

/// Opens a plain file; `flags` say for what.
pub(super) fn open_file(parent: impl AsFd, name: &str, flags: OFlag) -> io::Result<File> {
    // Looked at first, since opening alone has effects on some devices, and again, since names can be exchanged.
    stat_file(&parent, name)?;
    let safe = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = File::from(openat(&parent, name, flags | safe, Mode::empty())?);
    let found = kind(&fstat(&file)?);
    if found == SFlag::S_IFREG { Ok(file) } else { Err(foreign(name, found)) }
}

fn open_directory(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(&parent, name, flags, Mode::empty()) {
        Err(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => match kind(&stat(&parent, name)?) {
            SFlag::S_IFREG => Err(errno.into()),
            other => Err(foreign(name, other)),
        },
        opened => Ok(opened?),
    }
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(root, flags, Mode::empty())?)
}

/// The directories on the way to a key, the root first, without the last name.
pub(super) fn open_parents(root: &Path, key: &str) -> io::Result<(Vec<OwnedFd>, String)> {
    let mut names = parts(key)?;
    let name = names.pop().unwrap_or_default().to_owned();
    let mut way = vec![open_root(root)?];
    for part in names {
        let next = open_directory(way.last().map_or_else(|| Err(Errno::ENOENT), Ok)?, part)?;
        way.push(next);
    }
    Ok((way, name))
}

/// The directory that an object of this key lies in, and its name there.
pub(super) fn open_parent(root: &Path, key: &str) -> io::Result<(OwnedFd, String)> {
    let (mut way, name) = open_parents(root, key)?;
    Ok((way.pop().ok_or(Errno::ENOENT)?, name))
}

/// The directory of this key; an empty key is the root.
pub(super) fn open_at(root: &Path, key: &str) -> io::Result<OwnedFd> {
    if key.is_empty() {
        return open_root(root);
    }
    let (parent, name) = open_parent(root, key)?;
    open_directory(parent, &name)
}

/// Creates what is missing of the way to a key below the root, which is there; `made` makes each new entry durable.
pub(super) fn create_parents(
    root: &Path,
    key: &str,
    made: &dyn Fn(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<(OwnedFd, String)> {
    let mut names = parts(key)?;
    let name = names.pop().unwrap_or_default().to_owned();
    let mut parent = open_root(root)?;
    for part in names {
        let next = match open_directory(&parent, part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(&parent, part, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => made(parent.as_fd())?,
                    Err(errno) => return Err(errno.into()),
                }
                open_directory(&parent, part)?
            }
            opened => opened?,
        };
        parent = next;
    }
    Ok((parent, name))
}

/// Name and kind of each entry of a directory.
fn entries(directory: &mut Dir) -> io::Result<Vec<(CString, Option<SFlag>)>> {
    use nix::dir::Type;
    let mut found = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if found.len() >= ENTRIES {
            return Err(io::Error::other(format!("it holds more than {ENTRIES} entries; no repository has that many")));
        }
        let kind = entry.file_type().map(|kind| match kind {
            Type::Directory => SFlag::S_IFDIR,
            Type::File => SFlag::S_IFREG,
            Type::Symlink => SFlag::S_IFLNK,
            Type::Fifo => SFlag::S_IFIFO,
            Type::Socket => SFlag::S_IFSOCK,
            Type::CharacterDevice | Type::BlockDevice => SFlag::S_IFCHR,
        });
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

/// The names in a directory; what is not there, or no directory of ours, has none.
pub(super) fn names(root: &Path, key: &str) -> io::Result<Vec<String>> {
    let Some(mut directory) = opened(key, open_at(root, key))? else { return Ok(Vec::new()) };
    let names = entries(&mut directory)?.into_iter();
    Ok(names.map(|(name, _)| text(&name)).collect())
}

/// A directory to be read, or none where there is none. A link in its place is reported, and is none either.
fn opened(key: &str, opened: io::Result<OwnedFd>) -> io::Result<Option<Dir>> {
    match opened {
        Ok(directory) => Ok(Some(Dir::from_fd(directory)?)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Foreign>()) => {
            tracing::warn!(object = key, "{error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Visits everything below a key that is no directory: its parent, its name there, its key.
pub(super) fn walk(
    root: &Path,
    key: &str,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &str, String) -> io::Result<()>,
) -> io::Result<()> {
    let Some(directory) = opened(key, open_at(root, key))? else { return Ok(()) };
    let mut left = ENTRIES;
    descend(directory, key, DEPTH, &mut left, visit)
}

fn descend(
    mut directory: Dir,
    key: &str,
    depth: usize,
    left: &mut usize,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &str, String) -> io::Result<()>,
) -> io::Result<()> {
    let found = entries(&mut directory)?;
    *left = left.checked_sub(found.len()).ok_or_else(|| {
        io::Error::other(format!("it holds more than {ENTRIES} objects; no repository has that many"))
    })?;
    for (name, known) in found {
        let name = text(&name);
        let below = if key.is_empty() { name.clone() } else { format!("{key}/{name}") };
        // Not every file system says in its list what an entry is.
        let known = match known.map_or_else(|| stat(&directory, &name).map(|stat| kind(&stat)), Ok) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            known => known?,
        };
        if known != SFlag::S_IFDIR {
            if known != SFlag::S_IFREG {
                tracing::warn!(object = below, "{}", foreign(&name, known));
            }
            visit(directory.as_fd(), &name, below)?;
        } else if depth == 0 {
            return Err(io::Error::other(format!("{below} is nested deeper than anything in a repository")));
        } else if let Some(inner) = opened(&below, open_directory(&directory, &name))? {
            descend(inner, &below, depth - 1, left, visit)?;
        }
    }
    Ok(())
}

fn text(name: &CString) -> String {
    OsStr::from_bytes(name.as_bytes()).to_string_lossy().into_owned()
}

/// Removes a name, and never what it leads to.
pub(super) fn remove(parent: impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?)
}

/// Removes an empty directory.
pub(super) fn remove_directory(parent: impl AsFd, name: &str) -> io::Result<()> {
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Directories, Local, Storage};
    use crate::Error;
    use std::{fs, os::unix::fs::symlink, path::Path};

    fn storage(root: &Path) -> Local {
        Local::new(root, Directories::Synced)
    }

    #[tokio::test]
    async fn c36_no_link_is_followed_and_removal_takes_the_link_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (root, victim) = (directory.path().join("repository"), directory.path().join("victim"));
        fs::create_dir_all(victim.join("base")).unwrap();
        fs::write(victim.join("base/1259"), "precious").unwrap();
        fs::create_dir_all(root.join("main/backup")).unwrap();
        symlink(&victim, root.join("main/backup/data")).unwrap();
        symlink(victim.join("base/1259"), root.join("main/backup/file")).unwrap();
        symlink(&victim, root.join("main/whole")).unwrap();
        symlink(root.join("main"), root.join("main/backup/loop")).unwrap();
        let storage = storage(&root);
        let keys: Vec<_> = storage.list("main").await.unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["main/backup/data", "main/backup/file", "main/backup/loop", "main/whole"]);
        assert!(storage.list("main/whole").await.unwrap().is_empty());
        assert!(storage.names("main/whole").await.unwrap().is_empty());
        for key in ["main/backup/file", "main/whole/base/1259", "main/backup/data"] {
            let read = storage.open(key).await.err().unwrap();
            assert!(matches!(&read, Error::Damaged { .. }), "{read}");
            assert!(read.to_string().contains("symbolic link"), "{read}");
            assert!(matches!(storage.stat(key).await, Err(Error::Damaged { .. })));
        }
        for key in ["main/whole/new", "main/backup/data/base/new"] {
            assert!(matches!(storage.create(key).await.err().unwrap(), Error::Damaged { .. }));
            assert!(matches!(storage.delete(key).await, Err(Error::Damaged { .. })));
        }
        storage.delete_unfinished("main/whole").await.unwrap();
        for key in keys {
            storage.delete(&key).await.unwrap();
        }
        assert_eq!(fs::read_to_string(victim.join("base/1259")).unwrap(), "precious");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        assert!(!root.join("main").exists(), "what was ours, links among it, is gone");
        for key in ["../victim/base/1259", "main/../../victim/base/1259", "/etc/passwd", "a//b"] {
            assert!(storage.open(key).await.is_err() && storage.delete(key).await.is_err());
            assert!(storage.create(key).await.is_err());
        }
        assert!(victim.join("base/1259").exists());
    }

    #[tokio::test]
    async fn c36_what_is_no_plain_file_is_neither_opened_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&directory.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        let storage = storage(directory.path());
        for (key, word) in [("fifo", "a FIFO"), ("socket", "a socket"), ("directory", "a directory")] {
            for error in [storage.open(key).await.err().unwrap(), storage.stat(key).await.unwrap_err()] {
                assert!(matches!(&error, Error::Damaged { .. }));
                assert!(error.to_string().contains(word) && error.to_string().contains(key), "{error}");
            }
        }
        // They are listed, so that whoever removes a directory removes them too.
        assert_eq!(storage.list("").await.unwrap().len(), 2);
        assert_eq!(storage.sweep("").await.unwrap(), 0);
    }
}
