//! Configuration files that come back from a backup: those of the data directory always, those elsewhere when asked.
//!
//! C18: nothing is written through a link, nor by more than this process may write: the owner of the data directory, whose server the backup
//! configures. A file elsewhere that is replaced is kept beside it. No private key stays in the data directory, from where the next backup would
//! take it into a repository that is not encrypted; and what an earlier restore left there is not taken for what this backup saved.

use super::has_private_key;
use crate::{
    Error,
    restore::extract::{Access, confined, write_file},
};
use chrono::{DateTime, Utc};
use pgbosun_core::publish::publish;
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where a restored data directory has what the backup saved of its server's configuration, once the restore is done.
pub(crate) const DIRECTORY: &str = "pgbosun-config";

/// The same while it is restored: a name that no data directory has that was backed up.
pub(crate) const UNPACKED: &str = ".pgbosun-config-unpacked";

/// Below it, by their whole paths: files that lie outside the data directory.
pub(crate) const OUTSIDE: &str = "files";

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
    let root = target.join(UNPACKED).join(below);
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
        let saved = fs::read(&from).map_err(Error::file("read", &from))?;
        write_file(&to, mode(access.file(), &saved), &mut saved.as_slice())?;
        made.push(name);
    }
    Ok(made)
}

/// A private key is its owner's alone, or the server does not start with it.
fn mode(usual: u32, contents: &[u8]) -> u32 {
    if has_private_key(contents) { 0o600 } else { usual }
}

/// Whether a file has these contents; false where it is none that can be read.
fn has_contents(path: &Path, contents: &[u8]) -> bool {
    // A device or FIFO has no end, or waits.
    let fits = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == contents.len() as u64);
    fits && fs::read(path).is_ok_and(|there| there == contents)
}

/// Files elsewhere that are not as the backup has them, of those this process may read.
pub(crate) fn differing(target: &Path) -> Vec<PathBuf> {
    let all = saved(target, OUTSIDE).into_iter().map(|(from, name)| (from, Path::new("/").join(name)));
    let differs = |(from, to): &(PathBuf, PathBuf)| match fs::metadata(to) {
        Ok(found) if found.is_file() => {
            fs::File::open(to).is_ok() && fs::read(from).is_ok_and(|saved| !has_contents(to, &saved))
        }
        there => there.is_err_and(|error| error.kind() == ErrorKind::NotFound),
    };
    all.filter(differs).map(|(_, to)| to).collect()
}

/// Puts the files elsewhere back to where they were.
pub(crate) fn put_back(target: &Path, now: DateTime<Utc>) -> Vec<(PathBuf, PutBack)> {
    let mut all = Vec::new();
    for (from, name) in saved(target, OUTSIDE) {
        let contents = fs::read(&from).map_err(Error::file("read", &from));
        let is_key = contents.as_ref().is_ok_and(|contents| has_private_key(contents));
        all.push((is_key, Path::new("/").join(name), contents));
    }
    // Keys first: without its key no certificate replaces another.
    all.sort_by_key(|(is_key, ..)| !is_key);
    let mut lacks_key = false;
    let done = all.into_iter().map(|(is_key, to, contents)| {
        let is_certificate = |contents: &[u8]| contents.windows(16).any(|window| window == b"IN CERTIFICATE--");
        let done = contents.and_then(|contents| match may_be_put(target, &to) {
            _ if lacks_key && is_certificate(&contents) => {
                Err(Error::Refused("its key could not be restored".to_owned()))
            }
            Err(reason) => Err(Error::Refused(reason)),
            Ok(()) => put_one_back(&contents, &to, now),
        });
        let done = done.unwrap_or_else(PutBack::Failed);
        lacks_key |= is_key && matches!(done, PutBack::Failed(_));
        (to, done)
    });
    done.collect()
}

/// C36: what a repository calls configuration goes where configuration may lie.
fn may_be_put(target: &Path, to: &Path) -> Result<(), String> {
    let is_hidden = to.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    let is_system = ["/dev", "/proc", "/sys"].iter().any(|place| to.starts_with(place));
    match to.starts_with(target) || is_hidden || is_system {
        true => Err("configuration files are never restored there".to_owned()),
        false => Ok(()),
    }
}

fn put_one_back(saved: &[u8], to: &Path, now: DateTime<Utc>) -> Result<PutBack, Error> {
    let failed = || Error::file("write", to);
    let mut there = None;
    match fs::symlink_metadata(to) {
        Ok(_) if has_contents(to, saved) => return Ok(PutBack::Same),
        // Of a link what it leads to: its rights are the file's.
        Ok(found) if found.is_file() || found.is_symlink() => {
            there = Some(fs::metadata(to).map_or(0o600, |found| found.permissions().mode() & 0o777));
        }
        Ok(found) if found.is_dir() => return Err(failed()(ErrorKind::IsADirectory.into())),
        Ok(_) => return Err(failed()(ErrorKind::AlreadyExists.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed()(error)),
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    let kept = match there {
        None => None,
        // A second name first, so that there is a file at any moment: a link stays a link under it.
        Some(_) => {
            let mut name = to.as_os_str().to_owned();
            name.push(now.format(".%Y%m%dT%H%M%SZ").to_string());
            let kept = PathBuf::from(name);
            match fs::hard_link(to, &kept) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::file("keep", to)(error)),
                _ => Some(kept),
            }
        }
    };
    match publish(to, mode(there.unwrap_or(0o600), saved), saved) {
        Ok(()) => Ok(kept.map_or(PutBack::New, PutBack::Replaced)),
        Err(error) => {
            // It is there under its own name.
            let _ = kept.map(fs::remove_file);
            Err(failed()(error))
        }
    }
}

/// Ends with what was unpacked: it lies under its lasting name, without keys.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn settle(target: &Path) -> Result<(), Error> {
    let unpacked = target.join(UNPACKED);
    if !unpacked.exists() {
        return Ok(());
    }
    for (path, _) in saved(target, "") {
        // What cannot be looked into may be one.
        if fs::read(&path).map_or(true, |contents| has_private_key(&contents) || is_key_table(&path, &contents)) {
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    let lasting = target.join(DIRECTORY);
    match fs::remove_dir_all(&lasting) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::file("remove", lasting)(error)),
        _ => {}
    }
    fs::rename(&unpacked, &lasting).map_err(Error::file("rename", lasting))
}

/// A key table of Kerberos: binary, and begins with its version.
fn is_key_table(path: &Path, contents: &[u8]) -> bool {
    let is_named_so = path.extension().is_some_and(|ending| ending == "keytab");
    is_named_so || contents.starts_with(&[5, 2]) || contents.starts_with(&[5, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// With a name that is not hidden.
    fn place() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("pgbosun").tempdir().unwrap()
    }

    fn save(target: &Path, name: &str, text: &str) {
        let path = target.join(UNPACKED).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn c18_what_the_data_directory_lacks_comes_back_and_goes_through_no_link() {
        let directory = place();
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
    fn c36_keys_stay_in_no_data_directory_and_nothing_goes_where_configuration_never_lies() {
        let directory = place();
        let (target, etc) = (directory.path().join("data"), directory.path().join("etc"));
        fs::create_dir_all(&etc).unwrap();
        let key = "-----BEGIN PRIVATE KEY-----\n";
        save(&target, &format!("files{}/server.key", etc.display()), key);
        save(&target, &format!("files{}/locked/other.key", etc.display()), key);
        save(&target, &format!("files{}/server.crt", etc.display()), "-----BEGIN CERTIFICATE-----\n");
        for name in ["dev/zero", "root/.ssh/authorized_keys", &format!("{}/global/pg_control", target.display())[1..]] {
            save(&target, &format!("files/{name}"), "saved");
        }
        fs::write(etc.join("locked"), "a file where a directory should be").unwrap();
        fs::write(etc.join("server.key"), "another").unwrap();
        fs::set_permissions(etc.join("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            differing(&target)
                .iter()
                .all(|path| path.starts_with(&etc) || path.starts_with("/root") || path.starts_with(&target))
        );
        let done = put_back(&target, "2026-11-21T08:30:00Z".parse().unwrap());
        for (path, done) in &done {
            let restored = matches!(done, PutBack::Replaced(_));
            assert_eq!(restored, path.ends_with("server.key"), "{path:?}: {done:?}");
        }
        // With a key that others may read no server starts.
        assert_eq!(fs::metadata(etc.join("server.key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!etc.join("server.crt").exists(), "a key is missing");
        fs::create_dir_all(target.join(DIRECTORY)).unwrap();
        fs::write(target.join(DIRECTORY).join("stale"), "of an earlier restore").unwrap();
        settle(&target).unwrap();
        let lasting = target.join(DIRECTORY).join("files").join(etc.strip_prefix("/").unwrap());
        assert!(lasting.join("server.crt").exists() && !lasting.join("server.key").exists());
        assert!(!target.join(DIRECTORY).join("stale").exists() && !target.join(UNPACKED).exists());
    }

    #[test]
    fn files_go_back_to_where_they_were_and_what_they_replace_is_kept() {
        let directory = place();
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
