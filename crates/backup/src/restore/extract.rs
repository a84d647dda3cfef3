//! From one volume into the target: whole files, and the blocks of incremental ones.
//!
//! C18: nothing an archive says leads out of the directory it is for.

use super::account::{Account, Contents};
use crate::{Error, manifest::Measured, pace::Pace};
use pgbosun_core::name::{to_path, to_text};
use std::{
    collections::HashSet,
    fs,
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
};
use tokio_util::sync::CancellationToken;

/// `pg_control` under this name until everything else is there: without it no server starts (C12).
pub(super) const CONTROL: &str = "global/pg_control";
pub(super) const CONTROL_UNFINISHED: &str = "global/pg_control.pgbosun-unfinished";

/// How the file name of an incremental file begins (PostgreSQL: `basebackup_incremental.h`).
const INCREMENTAL: &str = "INCREMENTAL.";
const MAGIC: u32 = 0xd3ae_1f0d;
const BLOCK: u64 = 8192;

/// What a file name in a backup stands for: the file, and whether these are only its changed blocks.
pub(super) fn logical(name: &str) -> (String, bool) {
    let (directory, file) = name.rsplit_once('/').map_or(("", name), |(directory, file)| (directory, file));
    match file.strip_prefix(INCREMENTAL) {
        Some(file) if directory.is_empty() => (file.to_owned(), true),
        Some(file) => (format!("{directory}/{file}"), true),
        None => (name.to_owned(), false),
    }
}

/// What is taken from a volume.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Everything.
    All,
    /// These entries.
    Some(HashSet<String>),
}

impl Wanted {
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(name),
        }
    }
}

/// Who may read what is restored (PostgreSQL: `data_directory_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The owner alone.
    Owner,
    /// The owner's group as well.
    Group,
}

impl Access {
    /// C31: as the target has it; a new one is its owner's.
    pub fn of(target: &Path) -> Self {
        let mode = fs::metadata(target).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 == 0o050 { Self::Group } else { Self::Owner }
    }

    /// Makes a directory, or gives it these rights.
    pub fn create(self, directory: &Path) -> Result<(), Error> {
        let mode = if self == Self::Group { 0o750 } else { 0o700 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(directory)
            .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(mode)))
            .map_err(Error::file("create", directory))
    }

    /// The mode of a new file.
    pub fn file(self) -> u32 {
        if self == Self::Group { 0o640 } else { 0o600 }
    }
}

/// C18: a path of plain names only.
pub(crate) fn confined(into: &Path, path: &Path) -> Result<PathBuf, Error> {
    let mut confined = into.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => confined.push(name),
            Component::CurDir => {}
            _ => {
                return Err(Error::Refused(format!(
                    "the backup contains the path {}, which leads outside",
                    path.display()
                )));
            }
        }
    }
    Ok(confined)
}

/// What a volume is unpacked with.
pub(super) struct Unpacking<'a> {
    /// The directory it is for.
    pub into: &'a Path,
    /// What is taken from it.
    pub wanted: &'a Wanted,
    /// Which files these are.
    pub contents: &'a Contents,
    /// Where they are noted.
    pub account: &'a Account,
    pub access: Access,
    pub pace: &'a Pace,
    pub cancel: &'a CancellationToken,
}

/// Unpacks the wanted entries of a tar; returns files and bytes.
pub(super) fn extract(reader: &mut dyn Read, unpacking: &Unpacking<'_>) -> Result<(u64, u64), Error> {
    let Unpacking { into, wanted, contents, account, access, pace, cancel } = *unpacking;
    access.create(into)?;
    let broken = || Error::file("unpack into", into);
    let (mut files, mut bytes) = (0, 0);
    let mut archive = crate::member::archive(reader);
    for entry in archive.entries().map_err(broken())? {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut entry = entry.map_err(broken())?;
        crate::member::check(&entry)?;
        let path = entry.path().map_err(broken())?.into_owned();
        let name = to_text(path.as_os_str().as_bytes());
        if !wanted.has(&name) {
            continue;
        }
        let (file, incremental) = match contents {
            Contents::Data(_) => logical(&name),
            Contents::Other(_) => (name.clone(), false),
        };
        let target = match file.as_str() {
            CONTROL => into.join(CONTROL_UNFINISHED),
            file => confined(into, &to_path(file))?,
        };
        match entry.header().entry_type() {
            tar::EntryType::Directory => access.create(&target)?,
            // Links to tablespaces are already there, from backup.json.
            tar::EntryType::Symlink if path.starts_with("pg_tblspc") => {}
            // A link elsewhere is pg_wal on another disk; here it is a directory again.
            tar::EntryType::Symlink if path == Path::new("pg_wal") => access.create(&target)?,
            kind if kind.is_file() => {
                let mode = (entry.header().mode().unwrap_or(0o600) & 0o700) | access.file();
                if let Some(parent) = target.parent().filter(|parent| !parent.is_dir()) {
                    access.create(parent)?;
                }
                let mut entry = Measured::new(&mut entry);
                let written =
                    if incremental { apply(&target, &mut entry)? } else { write_file(&target, mode, &mut entry)? };
                let (size, crc32c) = entry.end().map_err(Error::file("read", &target))?;
                account.note(contents, &name, size, &crc32c)?;
                pace.step(written, || !cancel.is_cancelled());
                bytes += written;
                files += 1;
            }
            kind => {
                return Err(Error::Refused(format!(
                    "the backup contains {} of the unexpected kind {kind:?}",
                    path.display()
                )));
            }
        }
    }
    Ok((files, bytes))
}

/// Writes a file, in place of one that was there.
pub(crate) fn write_file(path: &Path, mode: u32, contents: &mut dyn Read) -> Result<u64, Error> {
    let failed = || Error::file("write", path);
    // Never through a link that somebody left in the target.
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW);
    let mut file = options.open(path).map_err(failed())?;
    if mode & 0o040 != 0 {
        // A umask takes what the target's owner granted.
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed())?;
    }
    let mut buffer = vec![0; 1 << 17];
    let mut bytes = 0;
    loop {
        match contents.read(&mut buffer).map_err(failed())? {
            0 => break,
            n => {
                file.write_all(&buffer[..n]).map_err(failed())?;
                bytes += n as u64;
            }
        }
    }
    Ok(bytes)
}

/// Writes the changed blocks of an incremental file over the file as the backup before it had it.
///
/// The layout (PostgreSQL: `basebackup_incremental.h`): magic, number of blocks, truncation length in blocks, the blocks'
/// numbers, zeros up to a block where there are blocks, the blocks. Below the truncation length blocks that are not here
/// come from the backup before; at and above it they are zeros.
fn apply(path: &Path, contents: &mut dyn Read) -> Result<u64, Error> {
    let failed = || Error::file("combine", path);
    let file = fs::File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(failed())?;
    let mut word = || -> io::Result<u32> {
        let mut bytes = [0; 4];
        contents.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    };
    let (magic, count, truncation) = (word().map_err(failed())?, word().map_err(failed())?, word().map_err(failed())?);
    if magic != MAGIC {
        return Err(failed()(io::Error::other("it is not an incremental file of PostgreSQL")));
    }
    // A segment of a relation has at most 1 GiB (RELSEG_SIZE), whatever block size a server was built with.
    if count > 1 << 20 || truncation > 1 << 20 {
        return Err(failed()(io::Error::other(format!(
            "it claims {count} changed blocks and a length of {truncation} blocks"
        ))));
    }
    let numbers = (0..count).map(|_| word()).collect::<io::Result<Vec<_>>>().map_err(failed())?;
    if count > 0 {
        let header = 12 + 4 * u64::from(count);
        let padding = header.next_multiple_of(BLOCK) - header;
        io::copy(&mut contents.take(padding), &mut io::sink()).map_err(failed())?;
    }
    file.set_len(u64::from(truncation) * BLOCK).map_err(failed())?;
    let mut block = vec![0; BLOCK as usize];
    for number in numbers {
        contents.read_exact(&mut block).map_err(failed())?;
        file.write_all_at(&block, u64::from(number) * BLOCK).map_err(failed())?;
    }
    Ok(u64::from(count) * BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (pace, cancel) = (Pace::new(None), CancellationToken::new());
        let (account, contents) = (Account::new("L", [].into()), Contents::Data(String::new()));
        let (into, wanted) = (directory.path(), &Wanted::All);
        let unpacking = Unpacking {
            into,
            wanted,
            contents: &contents,
            account: &account,
            access: Access::Owner,
            pace: &pace,
            cancel: &cancel,
        };
        let error = extract(&mut bytes.as_slice(), &unpacking).unwrap_err();
        assert!(error.to_string().contains("Symlink"), "{error}");
    }

    #[test]
    fn incremental_files_are_laid_over_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("16384");
        let old: Vec<u8> = (0..5_u8).flat_map(|block| vec![block + 1; BLOCK as usize]).collect();
        fs::write(&path, old).unwrap();
        // Block 1 is new, the file was cut to 3 blocks and grew again to 5, of which the last is here.
        let mut bytes = Vec::new();
        for word in [MAGIC, 2, 3, 1, 4] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.resize(BLOCK as usize, 0);
        bytes.extend_from_slice(&[11; BLOCK as usize]);
        bytes.extend_from_slice(&[14; BLOCK as usize]);
        apply(&path, &mut bytes.as_slice()).unwrap();
        let new = fs::read(&path).unwrap();
        let blocks: Vec<u8> = new.chunks(BLOCK as usize).map(|block| block[0]).collect();
        assert_eq!(blocks, [1, 11, 3, 0, 14]);
        assert_eq!(logical("base/5/INCREMENTAL.16384"), ("base/5/16384".into(), true));
        assert_eq!(logical("base/5/16384"), ("base/5/16384".into(), false));
        assert!(apply(&path, &mut [0_u8; 12].as_slice()).is_err());
    }
}
