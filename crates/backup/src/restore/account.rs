//! What was written of a backup, held against its manifest while it is written.
//!
//! C36: a restore that ends well wrote every file that the manifest names and that was wanted, each once, with the size and checksum
//! it has there, and no other file.

use crate::{Error, manifest::Expected};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// What is written from one backup of a chain.
#[derive(Debug)]
pub(super) struct Account {
    label: String,
    /// Of the files of the data directory, by their paths in the manifest.
    data: Mutex<HashMap<String, File>>,
    /// WAL and saved configuration, which no manifest names.
    others: Mutex<HashSet<String>>,
}

#[derive(Debug)]
struct File {
    expected: Expected,
    written: bool,
}

/// Which files a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Files of the manifest, below this path.
    Data(String),
    /// Files beside them, of this kind.
    Other(&'static str),
}

impl Contents {
    pub fn path(&self, name: &str) -> String {
        let name = name.strip_prefix("./").unwrap_or(name);
        match self {
            Self::Data(below) if below.is_empty() => name.to_owned(),
            Self::Data(below) => format!("{below}/{name}"),
            Self::Other(kind) => format!("{kind}/{name}"),
        }
    }
}

impl Account {
    pub fn new(label: &str, manifest: HashMap<String, Expected>) -> Self {
        let data = manifest.into_iter().map(|(path, expected)| (path, File { expected, written: false }));
        Self { label: label.to_owned(), data: Mutex::new(data.collect()), others: Mutex::default() }
    }

    /// Notes a file as it was written.
    pub fn note(&self, contents: &Contents, name: &str, size: u64, crc32c: &str) -> Result<(), Error> {
        let path = contents.path(name);
        let refused = |reason: String| Err(self.refused(&path, &reason));
        if matches!(contents, Contents::Other(_)) {
            let new = self.others.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            return if new { Ok(()) } else { refused("appears twice".into()) };
        }
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = data.get_mut(&path) else { return refused("is not in its manifest".into()) };
        if std::mem::replace(&mut file.written, true) {
            return refused("appears twice".into());
        }
        match file.expected.difference(size, crc32c) {
            Some(reason) => refused(reason),
            None => Ok(()),
        }
    }

    /// Fails where one of these files was not written; without names, one of the manifest.
    pub fn is_complete(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = data.iter().filter(|(path, file)| !file.written && wanted(path)).map(|(path, _)| path).min();
        missing.map_or(Ok(()), |path| Err(self.refused(path, "is in its manifest but in none of its volumes")))
    }

    /// Whether a file beside those of the manifest was written.
    pub fn has(&self, contents: &Contents, name: &str) -> bool {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).contains(&contents.path(name))
    }

    fn refused(&self, path: &str, reason: &str) -> Error {
        let path = Path::new(path);
        Error::Refused(format!(
            "backup {} is inconsistent: {path:?} {reason}. What was restored so far will not start; restore another backup, \
             and check this one with \"pgbosun backup verify\"",
            self.label
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c36_what_is_written_is_what_the_manifest_names_each_once() {
        let file = |size| Expected { size, crc32c: Some("839206e3".into()) };
        let manifest = [("base/1/2".to_owned(), file(9)), ("pg_tblspc/7/x".to_owned(), file(9))];
        let account = Account::new("L", manifest.into());
        let base = Contents::Data(String::new());
        let note = |contents: &Contents, name: &str, size, crc: &str| {
            account.note(contents, name, size, crc).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(note(&base, "base/1/3", 9, "839206e3").contains("not in its manifest"));
        assert!(note(&Contents::Data("pg_tblspc/7".into()), "x", 8, "839206e3").contains("8 bytes"));
        assert!(account.is_complete(|_| true).unwrap_err().to_string().contains("base/1/2"));
        account.is_complete(|path| path != "base/1/2").unwrap();
        assert_eq!(note(&base, "./base/1/2", 9, "839206e3"), "");
        assert!(note(&base, "base/1/2", 9, "839206e3").contains("twice"));
        account.is_complete(|_| true).unwrap();
        let wal = Contents::Other("pg_wal");
        assert_eq!(note(&wal, "0001", 1, ""), "");
        assert!(account.has(&wal, "0001") && note(&wal, "0001", 1, "").contains("twice"));
    }
}
