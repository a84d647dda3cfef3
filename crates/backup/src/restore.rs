//! Restoring a physical backup into an empty directory from which PostgreSQL starts.

use crate::{Error, Progress};
use pgbosun_core::human;
use pgbosun_repository::{BackupInfo, Object, ObjectKind, Repository, read_volume};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// `pg_control` under this name until everything else is there: without it no server starts (C12).
const CONTROL: &str = "global/pg_control";
const CONTROL_UNFINISHED: &str = "global/pg_control.pgbosun-unfinished";

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct Restore {
    /// From where.
    pub repository: Repository,
    /// Which backup.
    pub info: BackupInfo,
    /// The new data directory; empty, or not there.
    pub target: PathBuf,
    /// Where tablespaces go, by their old location; one that is not named goes to its old location.
    pub tablespaces: BTreeMap<String, PathBuf>,
    /// Leave the archiving of the restored cluster as it was (C21).
    pub keep_archiving: bool,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Where each tablespace went.
    pub tablespaces: Vec<PathBuf>,
}

impl Restore {
    /// Restores. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// [`Error::Refused`] before the first byte where the target will not do (C17); whatever went wrong later: then the
    /// target holds no `pg_control`, and nothing starts from it.
    pub async fn run(&self) -> Result<Restored, Error> {
        let places = self.places()?;
        for directory in std::iter::once(&self.target).chain(places.values()) {
            check_empty(directory)?;
        }
        self.check_space(&places)?;
        for directory in std::iter::once(&self.target).chain(places.values()) {
            create_private(directory)?;
        }
        // C18: links first, from what backup.json says, never from what an archive says.
        let links = self.target.join("pg_tblspc");
        create_private(&links)?;
        for (oid, place) in &places {
            symlink(place, links.join(oid.to_string())).map_err(Error::file("link tablespace", place))?;
        }
        self.progress.expect(self.info.stored_bytes);
        let mut restored = Restored { files: 0, bytes: 0, tablespaces: places.values().cloned().collect() };
        for object in &self.info.objects {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if object.kind == ObjectKind::Config && self.brings_its_own_configuration() {
                continue; // Nothing that pg_verifybackup would not know belongs into such a directory.
            }
            let into = match object.kind {
                ObjectKind::Data => self.target.clone(),
                ObjectKind::Tablespace(oid) => match places.get(&oid) {
                    Some(place) => place.clone(),
                    None => return Err(Error::Refused(format!("tablespace {oid} is not described in backup.json"))),
                },
                ObjectKind::Wal => self.target.join("pg_wal"),
                ObjectKind::Config => self.target.join("pgbosun-config"),
                ObjectKind::Manifest => self.target.clone(),
            };
            let (files, bytes) = self.object(object, into).await?;
            restored.files += files;
            restored.bytes += bytes;
            self.progress.add(object.size);
        }
        let (target, info, keep) = (self.target.clone(), self.info.clone(), self.keep_archiving);
        let spaces = restored.tablespaces.clone();
        let finished = tokio::task::spawn_blocking(move || finish(&target, &spaces, &info, keep)).await;
        finished.unwrap_or_else(|error| Err(Error::file("finish", &self.target)(io::Error::other(error))))?;
        Ok(restored)
    }

    /// True where `postgresql.conf` lies in the data directory, and so among its files.
    fn brings_its_own_configuration(&self) -> bool {
        let data = self.info.objects.iter().filter(|object| object.kind == ObjectKind::Data);
        data.flat_map(|object| &object.files).any(|file| file == "postgresql.conf")
    }

    fn places(&self) -> Result<BTreeMap<u32, PathBuf>, Error> {
        if let Some(unknown) =
            self.tablespaces.keys().find(|old| !self.info.tablespaces.iter().any(|space| space.location == **old))
        {
            let known: Vec<_> = self.info.tablespaces.iter().map(|space| space.location.as_str()).collect();
            return Err(Error::Refused(format!(
                "no tablespace of backup {} lay at {unknown}; there are: {}",
                self.info.label,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        let place = |location: &str| self.tablespaces.get(location).cloned().unwrap_or_else(|| location.into());
        Ok(self.info.tablespaces.iter().map(|space| (space.oid, place(&space.location))).collect())
    }

    /// Each file system must have room for what goes there.
    fn check_space(&self, places: &BTreeMap<u32, PathBuf>) -> Result<(), Error> {
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
        for (there, need) in needs.values() {
            let stat =
                nix::sys::statvfs::statvfs(there).map_err(|errno| Error::file("measure", there)(errno.into()))?;
            let free = stat.blocks_available() * stat.fragment_size();
            if free < *need {
                return Err(Error::Refused(format!(
                    "{} has {} free, and the restore needs {} there",
                    there.display(),
                    human::size(free),
                    human::size(*need)
                )));
            }
        }
        Ok(())
    }

    async fn object(&self, object: &Object, into: PathBuf) -> Result<(u64, u64), Error> {
        let key = self.info.place().key(&object.name);
        let (kind, cancel) = (object.kind, self.cancel.clone());
        read_volume(self.repository.storage.as_ref(), &key, object, move |reader| match kind {
            ObjectKind::Manifest => {
                let path = into.join("backup_manifest");
                let bytes = write_file(&path, 0o600, reader)?;
                Ok((1, bytes))
            }
            _ => extract(reader, &into, &cancel),
        })
        .await
    }
}

/// C17: never into a directory that is not empty, and never over a running server.
fn check_empty(directory: &Path) -> Result<(), Error> {
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) if directory.join("postmaster.pid").exists() => Err(Error::Refused(format!(
                "a PostgreSQL server runs in {}, or did not stop cleanly: restore into an empty directory",
                directory.display()
            ))),
            Some(_) => {
                Err(Error::Refused(format!("{} is not empty: restore into an empty directory", directory.display())))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("look into", directory)(error)),
    }
}

fn create_private(directory: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)))
        .map_err(Error::file("create", directory))
}

/// C18: a path of plain names only.
fn confined(into: &Path, path: &Path) -> Result<PathBuf, Error> {
    let mut confined = into.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => confined.push(name),
            Component::CurDir => {}
            _ => return Err(Error::Refused(format!("the backup holds the path {}, which leads out", path.display()))),
        }
    }
    Ok(confined)
}

fn extract(reader: &mut dyn Read, into: &Path, cancel: &CancellationToken) -> Result<(u64, u64), Error> {
    create_private(into)?;
    let broken = || Error::file("unpack into", into);
    let (mut files, mut bytes) = (0, 0);
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(broken())? {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut entry = entry.map_err(broken())?;
        let path = entry.path().map_err(broken())?.into_owned();
        let target = if path == Path::new(CONTROL) { into.join(CONTROL_UNFINISHED) } else { confined(into, &path)? };
        match entry.header().entry_type() {
            tar::EntryType::Directory => create_private(&target)?,
            // Links to tablespaces are already there, from backup.json.
            tar::EntryType::Symlink if path.starts_with("pg_tblspc") => {}
            // A link elsewhere is pg_wal on another disk; here it is a directory again.
            tar::EntryType::Symlink if path == Path::new("pg_wal") => create_private(&target)?,
            kind if kind.is_file() => {
                let mode = entry.header().mode().unwrap_or(0o600) & 0o700;
                if let Some(parent) = target.parent().filter(|parent| !parent.is_dir()) {
                    create_private(parent)?;
                }
                bytes += write_file(&target, mode, &mut entry)?;
                files += 1;
            }
            kind => {
                return Err(Error::Refused(format!("the backup holds {} of kind {kind:?}", path.display())));
            }
        }
    }
    Ok((files, bytes))
}

fn write_file(path: &Path, mode: u32, contents: &mut dyn Read) -> Result<u64, Error> {
    let failed = || Error::file("write", path);
    let file = fs::File::options().write(true).create_new(true).mode(mode).open(path).map_err(failed())?;
    let mut file = io::BufWriter::with_capacity(1 << 18, file);
    let bytes = io::copy(contents, &mut file).map_err(failed())?;
    file.flush().map_err(failed())?;
    Ok(bytes)
}

/// Makes everything durable, then lets `pg_control` take its name.
fn finish(target: &Path, tablespaces: &[PathBuf], info: &BackupInfo, keep_archiving: bool) -> Result<(), Error> {
    create_private(&target.join("pg_wal/archive_status"))?;
    configure(target, info, keep_archiving)?;
    for directory in tablespaces.iter().map(PathBuf::as_path).chain([target]) {
        let failed = || Error::file("sync", directory);
        let handle = fs::File::open(directory).map_err(failed())?;
        nix::unistd::syncfs(&handle).map_err(|errno| failed()(errno.into()))?;
    }
    let control = target.join(CONTROL);
    let failed = || Error::file("write", &control);
    fs::rename(target.join(CONTROL_UNFINISHED), &control).map_err(failed())?;
    fs::File::open(target.join("global")).and_then(|directory| directory.sync_all()).map_err(failed())
}

/// Adds what a server needs to start where the backup's own configuration lies outside the data directory.
fn configure(target: &Path, info: &BackupInfo, keep_archiving: bool) -> Result<(), Error> {
    let append = |name: &str, text: &str| {
        let path = target.join(name);
        let file = fs::File::options().append(true).create(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::file("write", path))
    };
    if !target.join("postgresql.conf").exists() {
        let mut text = format!(
            "# Written by pgbosun when it restored backup {}, whose postgresql.conf lay outside the data directory.\n\
             # The original is in pgbosun-config/. These settings may not be lower than they were.\n",
            info.label
        );
        for (name, value) in info.settings.iter().filter(|(name, _)| name.starts_with("max_")) {
            text.push_str(&format!("{name} = {value}\n"));
        }
        append("postgresql.conf", &text)?;
    }
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        let original = target.join("pgbosun-config").join(name);
        if !target.join(name).exists() {
            let text = match fs::read_to_string(&original) {
                Ok(text) => text,
                Err(_) if name == "pg_hba.conf" => "local all all peer\n".to_owned(),
                Err(_) => String::new(),
            };
            append(name, &text)?;
        }
    }
    let signals = ["standby.signal", "recovery.signal"].map(|name| target.join(name));
    for signal in signals.iter().filter(|signal| signal.exists()) {
        // Taken from a standby: the copy must not go on streaming from the primary of the original.
        fs::remove_file(signal).map_err(Error::file("remove", signal))?;
        append("postgresql.auto.conf", "primary_conninfo = ''\nprimary_slot_name = ''\n")?;
    }
    if !keep_archiving {
        // C21: a restored clone must not archive into the repository of the original.
        append("postgresql.auto.conf", "archive_mode = 'off'\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_a_directory_that_is_not_empty_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check_empty(directory.path()).is_ok());
        fs::write(directory.path().join("postmaster.pid"), "1").unwrap();
        assert!(check_empty(directory.path()).unwrap_err().to_string().contains("runs in"));
    }

    #[test]
    fn c18_paths_that_lead_out_are_refused() {
        let into = Path::new("/target");
        assert_eq!(confined(into, Path::new("base/1/2")).unwrap(), Path::new("/target/base/1/2"));
        assert!(confined(into, Path::new("../etc/passwd")).is_err());
        assert!(confined(into, Path::new("base/../../x")).is_err());
        assert!(confined(into, Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn c18_an_archive_cannot_write_through_a_link_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "base", "/tmp").unwrap();
        let bytes = builder.into_inner().unwrap();
        let error = extract(&mut bytes.as_slice(), directory.path(), &CancellationToken::new()).unwrap_err();
        assert!(error.to_string().contains("Symlink"), "{error}");
    }
}
