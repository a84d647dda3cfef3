//! Configuration files that come back from a backup: those of the data directory always, those elsewhere when asked.
//!
//! C18: nothing is written through a link, nor by more than this process may write. A file elsewhere that is replaced is kept beside it.

use crate::{
    Error,
    restore::extract::{Access, confined, write_file},
};
use chrono::{DateTime, Utc};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where a restored data directory has what the backup saved of its server's configuration.
pub(crate) const DIRECTORY: &str = "pgbosun-config";

/// Below it, by their whole paths: files that lie outside the data directory.
pub(super) const OUTSIDE: &str = "files";

/// Files within the data directory that its backup does not hold: the server had them by a link.
pub(super) const INSIDE: &str = "data";

/// The server's certificate, where the backup has it without its key.
pub(crate) const CERTIFICATES: &str = "certificates";

/// What became of one file.
#[derive(Debug)]
pub(crate) enum PutBack {
    /// It is as the backup has it already.
    Same,
    /// It was not there.
    New,
    /// It replaced another, which is kept here.
    Replaced(PathBuf),
    /// It could not be written.
    Failed(Error),
}

/// The saved files below one of the two, each with its path from there.
fn saved(target: &Path, below: &str) -> Vec<(PathBuf, PathBuf)> {
    let root = target.join(DIRECTORY).join(below);
    let (mut found, mut waiting) = (Vec::new(), vec![root.clone()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    let name = path.strip_prefix(&root).unwrap_or(&path).to_owned();
                    found.push((path, name));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Puts files into the data directory that it lacks. Returns their names.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn fill_in(target: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut made = Vec::new();
    for (from, name) in saved(target, INSIDE) {
        let to = confined(target, &name)?;
        let mut above = to.ancestors().skip(1).take_while(|above| *above != target);
        // What is there stays, and so does what a link of this place leads to.
        if fs::symlink_metadata(&to).is_ok() || above.any(Path::is_symlink) {
            continue;
        }
        let access = Access::of(target);
        if let Some(parent) = to.parent().filter(|parent| !parent.is_dir()) {
            access.create(parent)?;
        }
        let mut file = fs::File::open(&from).map_err(Error::file("read", &from))?;
        write_file(&to, access.file(), &mut file)?;
        made.push(name);
    }
    Ok(made)
}

/// Files elsewhere that are not as the backup has them, of those this process may read.
pub(crate) fn differing(target: &Path) -> Vec<PathBuf> {
    let all = saved(target, OUTSIDE).into_iter().map(|(from, name)| (from, Path::new("/").join(name)));
    let differs = |(from, to): &(PathBuf, PathBuf)| match fs::read(to) {
        Ok(there) => fs::read(from).is_ok_and(|saved| saved != there),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    all.filter(differs).map(|(_, to)| to).collect()
}

/// Puts the files elsewhere back to where they were.
pub(crate) fn put_back(target: &Path, now: DateTime<Utc>) -> Vec<(PathBuf, PutBack)> {
    let all = saved(target, OUTSIDE).into_iter();
    let done = all.map(|(from, name)| {
        let to = Path::new("/").join(name);
        let done = put_one_back(&from, &to, now).unwrap_or_else(PutBack::Failed);
        (to, done)
    });
    done.collect()
}

fn put_one_back(from: &Path, to: &Path, now: DateTime<Utc>) -> Result<PutBack, Error> {
    let failed = || Error::file("write", to);
    let saved = fs::read(from).map_err(Error::file("read", from))?;
    let mut there = None;
    match fs::symlink_metadata(to) {
        Ok(found) if found.is_dir() => return Err(failed()(ErrorKind::IsADirectory.into())),
        Ok(_) => {
            let same = fs::read(to).is_ok_and(|bytes| bytes == saved);
            if same {
                return Ok(PutBack::Same);
            }
            // Of a link what it leads to: its rights are the file's.
            there = Some(fs::metadata(to).map_or(0o600, |found| found.permissions().mode() & 0o777));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed()(error)),
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    // Whole or not at all: a server may be started at any moment.
    let name = |ending: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let draft = name(".pgbosun-new");
    let _ = fs::remove_file(&draft);
    let mode = there.unwrap_or(0o600);
    write_file(&draft, mode, &mut saved.as_slice())?;
    let placed = || -> std::io::Result<Option<PathBuf>> {
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode))?;
        fs::File::open(&draft)?.sync_all()?;
        let kept = there.map(|_| name(&now.format(".%Y%m%dT%H%M%SZ").to_string()));
        if let Some(kept) = &kept {
            fs::rename(to, kept)?;
        }
        fs::rename(&draft, to)?;
        Ok(kept)
    };
    match placed() {
        Ok(kept) => Ok(kept.map_or(PutBack::New, PutBack::Replaced)),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(failed()(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn save(target: &Path, name: &str, text: &str) {
        let path = target.join(DIRECTORY).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn c18_what_the_data_directory_lacks_comes_back_and_goes_through_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (target, outside) = (directory.path().join("data"), directory.path().join("etc"));
        fs::create_dir_all(&outside).unwrap();
        for name in ["conf.d/a.conf", "linked/b.conf", "there.conf", "dangling.conf"] {
            save(&target, &format!("data/{name}"), "saved");
        }
        fs::write(target.join("there.conf"), "its own").unwrap();
        symlink(&outside, target.join("linked")).unwrap();
        symlink(outside.join("none"), target.join("dangling.conf")).unwrap();
        assert_eq!(fill_in(&target).unwrap(), [Path::new("conf.d/a.conf")]);
        assert_eq!(fs::read_to_string(target.join("conf.d/a.conf")).unwrap(), "saved");
        assert_eq!(fs::read_to_string(target.join("there.conf")).unwrap(), "its own");
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
    }

    #[test]
    fn files_go_back_to_where_they_were_and_what_they_replace_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (target, etc) = (directory.path().join("data"), directory.path().join("etc"));
        fs::create_dir_all(&etc).unwrap();
        for name in ["same.conf", "other.conf", "deep/new.conf", "directory", "link.conf"] {
            save(&target, &format!("files{}/{name}", etc.display()), "saved");
        }
        for (name, text) in [("same.conf", "saved"), ("other.conf", "of this machine"), ("led-to.conf", "led to")] {
            fs::write(etc.join(name), text).unwrap();
        }
        fs::set_permissions(etc.join("other.conf"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(etc.join("directory")).unwrap();
        symlink(etc.join("led-to.conf"), etc.join("link.conf")).unwrap();
        let differing: Vec<_> =
            differing(&target).iter().map(|path| path.strip_prefix(&etc).unwrap().to_owned()).collect();
        assert_eq!(differing, ["deep/new.conf", "link.conf", "other.conf"].map(PathBuf::from));
        let now = "2026-11-21T08:30:00Z".parse().unwrap();
        let done = put_back(&target, now);
        let words: Vec<_> = done
            .iter()
            .map(|(path, done)| {
                let name = path.strip_prefix(&etc).unwrap().display().to_string();
                match done {
                    PutBack::Same => format!("{name} same"),
                    PutBack::New => format!("{name} new"),
                    PutBack::Replaced(kept) => format!("{name} > {}", kept.strip_prefix(&etc).unwrap().display()),
                    PutBack::Failed(error) => format!("{name}: {}", pgbosun_core::human::chain(error)),
                }
            })
            .collect();
        assert!(words[1].starts_with("directory: write /"), "{words:?}");
        assert_eq!(words[0], "deep/new.conf new");
        assert_eq!(
            words[2..],
            ["link.conf > link.conf.20261121T083000Z", "other.conf > other.conf.20261121T083000Z", "same.conf same"]
        );
        let mode = |name: &str| fs::symlink_metadata(etc.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("other.conf"), mode("deep/new.conf")), (0o644, 0o600));
        assert_eq!(fs::read_to_string(etc.join("other.conf.20261121T083000Z")).unwrap(), "of this machine");
        assert_eq!(fs::read_to_string(etc.join("led-to.conf")).unwrap(), "led to", "never through a link");
        assert!(
            put_back(&target, now)
                .iter()
                .all(|(path, done)| matches!(done, PutBack::Same) || path.ends_with("directory"))
        );
    }
}
