//! The WAL archive of one cluster in one repository.
//!
//! C2: the SHA-256 of the plain file is part of the object's name, so that the same file again is known without reading
//! it, and two different files under one name are found without any help from the store, and both kept.
//!
//! C42: where the writer signs, the name holds its signature too: `<file>-<sha256>.<signature>.zst`. So a listing is enough to know
//! what is to be believed, and pushing and fetching cost no further request. A file that was signed later has its signature in the
//! name of a small object beside it, `<file>.<signature>.signed`.

mod encoder;
mod object;

pub use encoder::{EncodedWal, WalEncoder};
pub use object::{WalContents, WalObject};

use crate::{
    Error, Repository, TrustedKeys, broken::Broken, decode::Decoding, repository::write_object, signature::Statement,
};
use bytes::Bytes;
use object::{SIGNED, gather, parse, parse_companion};
use pgbosun_core::{
    lineage::Lineage,
    wal::{self, Segment, Switch, WalFile},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};
use tokio_util::io::SyncIoBridge;

/// The archive of a cluster with this system identifier.
#[derive(Clone, Debug)]
pub struct WalArchive {
    repository: Repository,
    root: String,
}

impl WalArchive {
    /// The archive of a cluster in a repository.
    pub fn new(repository: &Repository, cluster: &str, system_id: &str) -> Self {
        Self { repository: repository.clone(), root: format!("{cluster}/{system_id}/wal") }
    }

    /// The repository it lies in.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    fn directory(&self, file: &WalFile) -> String {
        match file.segment() {
            Some(segment) => format!("{}/{:08X}/{:08X}", self.root, segment.timeline, segment.log),
            None => format!("{}/{:08X}", self.root, file.timeline()),
        }
    }

    /// What is signed of a file: its place without how it is encoded, since that may change from repository to repository.
    fn statement(&self, file: &WalFile, sha256: &str) -> Statement {
        Statement::new(&format!("{}/{file}", self.root), sha256)
    }

    /// C42: the one place where files of WAL are told apart by who signed them.
    fn sort_out(&self, found: Vec<WalObject>, trusted: &TrustedKeys) -> WalContents {
        let mut contents = WalContents::default();
        for mut object in found {
            let statement = self.statement(&object.file, &object.sha256);
            let beside = object.companions.iter().filter_map(|key| Some(parse_companion(key.rsplit('/').next()?)?.1));
            let signatures = object.signature.clone().into_iter().chain(beside);
            match signatures.into_iter().find(|signature| trusted.believe(&statement, signature)) {
                _ if trusted.is_empty() => contents.believed.push(object),
                None => contents.untrusted.push(object),
                believed => {
                    object.signature = believed;
                    contents.believed.push(object);
                }
            }
        }
        contents
    }

    /// Everything under a file's name.
    ///
    /// # Errors
    /// [`Error::Signing`], [`Error::Storage`].
    pub async fn contents_of(&self, file: &WalFile) -> Result<WalContents, Error> {
        let (directory, name) = (self.directory(file), file.to_string());
        let names = self.repository.storage.names(&directory).await?.into_iter();
        let of_file = names.filter(|stored| stored.starts_with(&name));
        let mut found = gather(of_file.map(|stored| (format!("{directory}/{stored}"), 0)));
        found.retain(|object| object.file == *file);
        Ok(self.sort_out(found, &self.repository.trusted_keys()?))
    }

    /// The file of this name, if it is archived.
    ///
    /// # Errors
    /// [`Error::Conflict`] where two files have the name, [`Error::Untrusted`] where nobody trusted has signed the only one,
    /// [`Error::Storage`].
    pub async fn find(&self, file: &WalFile) -> Result<Option<WalObject>, Error> {
        let WalContents { believed, untrusted } = self.contents_of(file).await?;
        let believed = if is_one(&believed) { believed } else { self.not_empty(believed).await? };
        let mut believed = believed.into_iter();
        let Some(object) = believed.next() else {
            // C4, C42: what is not to be believed is not absent.
            return untrusted.first().map_or(Ok(None), |object| Err(object.untrusted()));
        };
        match believed.find(|other| other.sha256 != object.sha256) {
            None => Ok(Some(object)),
            Some(other) => Err(Error::Conflict {
                object: file.to_string(),
                present: format!("sha256 {} and {}", short(&object.sha256), short(&other.sha256)),
            }),
        }
    }

    /// Stores a file, durably (C1). The same file again is no error; another one under its name is (C2), unless that one is not to be
    /// believed: nobody who can write here can keep WAL from being archived by being first. Returns whether anything was written.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Signing`], [`Error::Storage`].
    pub async fn put(&self, file: &WalFile, encoded: &EncodedWal) -> Result<bool, Error> {
        let WalContents { believed, untrusted } = self.contents_of(file).await?;
        let believed = self.not_empty(believed).await?;
        if let Some(present) = believed.iter().find(|present| present.sha256 != encoded.sha256) {
            let present =
                format!("sha256 {}, while {} was to be stored", short(&present.sha256), short(&encoded.sha256));
            return Err(Error::Conflict { object: encoded.name.clone(), present });
        }
        let statement = self.statement(file, &encoded.sha256);
        let copied = encoded.signature.clone();
        let signature = match (self.repository.check_signing(), self.repository.signing_key()?) {
            (Ok(()), Some(key)) => Some(key.compact(&statement)?),
            (Ok(()), None) => copied,
            // C42: success is not said of what nobody will believe.
            (Err(error), _) => {
                let trusted = self.repository.trusted_keys()?;
                let copied = copied.filter(|signature| trusted.believe(&statement, signature));
                if copied.is_none() && believed.is_empty() {
                    return Err(error);
                }
                copied
            }
        };
        if let Some(present) = believed.iter().find(|present| present.signature.is_some() || signature.is_none()) {
            self.repository.storage.settle(&present.key).await?;
            return Ok(false);
        }
        for object in untrusted.iter().filter(|object| object.sha256 != encoded.sha256) {
            tracing::warn!(repository = self.repository.name, "{}", object.untrusted());
        }
        let signature = signature.map_or_else(String::new, |signature| format!(".{signature}"));
        let (name, sha256, suffix) = (&encoded.name, &encoded.sha256, &encoded.suffix);
        let key = format!("{}/{name}-{sha256}{signature}{suffix}", self.directory(file));
        write_object(self.repository.storage.as_ref(), &key, encoded.bytes.clone()).await?;
        Ok(true)
    }

    /// The key under which a file that waited elsewhere is stored, signed now where it was not.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn signed_key(repository: &Repository, key: &str) -> Result<String, Error> {
        let name = key.rsplit('/').next().unwrap_or_default();
        let (Some((file, sha256, None)), Some(signing)) = (parse(name), repository.signing_key()?) else {
            return Ok(key.to_owned());
        };
        let Some((root, _)) = key.split_once("/wal/") else { return Ok(key.to_owned()) };
        let archive = Self { repository: repository.clone(), root: format!("{root}/wal") };
        let signature = signing.compact(&archive.statement(&file, &sha256))?;
        Ok(key.replacen(&sha256, &format!("{sha256}.{signature}"), 1))
    }

    /// Signs a file that is there; returns whether that was needed. What is signed is the SHA-256 in its name: whoever reads it
    /// compares.
    ///
    /// # Errors
    /// [`Error::Signing`] where this host has no key; [`Error::Storage`].
    pub async fn sign(&self, object: &WalObject) -> Result<bool, Error> {
        let key = self.repository.signing_key()?.ok_or_else(|| self.repository.no_signing_key())?;
        let statement = self.statement(&object.file, &object.sha256);
        let compact = key.compact(&statement)?;
        if object.signature.as_ref() == Some(&compact) {
            return Ok(false);
        }
        let companion = format!("{}/{}.{compact}{SIGNED}", self.directory(&object.file), object.file);
        write_object(self.repository.storage.as_ref(), &companion, key.armoured(&statement)?).await?;
        Ok(true)
    }

    /// Reads a file; its SHA-256 must be the one in its name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Key`], [`Error::Storage`].
    pub async fn get(&self, object: &WalObject) -> Result<Bytes, Error> {
        // A little more than a segment has: reading to the end wants room to see it.
        let bytes = self.copy(object, Vec::with_capacity((16 << 20) + 64)).await?;
        Ok(bytes.into())
    }

    /// Whether not even a byte of a file is there: a crash of the store, or somebody's hand. Recovery cannot use it, so it is missing (C34).
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn is_empty(&self, object: &WalObject) -> Result<bool, Error> {
        Ok(self.repository.storage.stat(&object.key).await?.is_some_and(|stat| stat.size == 0))
    }

    async fn not_empty(&self, objects: Vec<WalObject>) -> Result<Vec<WalObject>, Error> {
        let mut whole = Vec::new();
        for object in objects {
            if !self.is_empty(&object).await? {
                whole.push(object);
            }
        }
        Ok(whole)
    }

    /// Copies a file to `to`, in bounded memory; its SHA-256 must be the one in its name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Key`], [`Error::Storage`].
    pub async fn copy<W: Write + Send + 'static>(&self, object: &WalObject, mut to: W) -> Result<W, Error> {
        let damaged = |reason: String| Error::Damaged { object: object.key.clone(), reason };
        let stored = self.repository.storage.open(&object.key).await?;
        let broken = Broken::default();
        let identities = self.repository.identities()?;
        let plain = Decoding::of(&object.key).open(&object.key, broken.watch(stored), &identities).await;
        let mut plain = SyncIoBridge::new(plain.map_err(|error| broken.take(&object.key).unwrap_or(error))?);
        let (key, file) = (object.key.clone(), object.file.clone());
        let copying = tokio::task::spawn_blocking(move || {
            let undecoded = |error: io::Error| {
                let damaged = || Error::Damaged { object: key.clone(), reason: format!("it does not decode: {error}") };
                broken.take(&key).unwrap_or_else(damaged)
            };
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 18];
            let (mut size, mut longest) = (0, None);
            loop {
                let mut read = plain.read(&mut buffer).map_err(undecoded)?;
                // Its beginning as one piece, however a decoder cuts it.
                while longest.is_none() && read > 0 && read < BEGINNING {
                    match plain.read(&mut buffer[read..]).map_err(undecoded)? {
                        0 => break,
                        more => read += more,
                    }
                }
                if read == 0 {
                    return Ok((to, hex::encode(hash.finalize())));
                }
                size += read as u64;
                let longest = *longest.get_or_insert_with(|| limit(&file, &buffer[..read]));
                if size > longest {
                    let reason = format!("it decodes to more than the {longest} bytes that it can have");
                    return Err(Error::Damaged { object: key, reason });
                }
                hash.update(&buffer[..read]);
                to.write_all(&buffer[..read]).map_err(Error::storage("write", file.to_string()))?;
            }
        });
        let copied =
            copying.await.unwrap_or_else(|error| Err(Error::storage("read", &object.key)(io::Error::other(error))));
        let (to, sha256) = copied?;
        if sha256 == object.sha256 { Ok(to) } else { Err(damaged("its SHA-256 is not the one in its name".into())) }
    }

    /// All files that are to be believed, in order of timeline and position, history files first.
    ///
    /// # Errors
    /// [`Error::Signing`], [`Error::Storage`].
    pub async fn list(&self) -> Result<Vec<WalObject>, Error> {
        let WalContents { believed, untrusted } = self.contents().await?;
        if let Some(first) = untrusted.first() {
            let count = pgbosun_core::human::count(untrusted.len(), "WAL file");
            tracing::warn!(repository = self.repository.name, "{count} skipped: {}", first.untrusted());
        }
        Ok(believed)
    }

    /// All files, told apart by whether they are to be believed (C42).
    ///
    /// # Errors
    /// [`Error::Signing`], [`Error::Storage`].
    pub async fn contents(&self) -> Result<WalContents, Error> {
        let found = gather(self.repository.storage.list(&self.root).await?);
        let (archive, trusted) = (self.clone(), self.repository.trusted_keys()?);
        // A hundred thousand signatures take seconds, which are not the scheduler's.
        let sorted = tokio::task::spawn_blocking(move || archive.sort_out(found, &trusted)).await;
        sorted.map_err(|error| Error::storage("read", &self.root)(io::Error::other(error)))
    }

    /// The newest segment of a timeline, without a listing of the others.
    ///
    /// # Errors
    /// [`Error::Signing`], [`Error::Storage`].
    pub async fn newest(&self, timeline: u32) -> Result<Option<(Segment, WalObject)>, Error> {
        let (root, trusted) = (format!("{}/{timeline:08X}", self.root), self.repository.trusted_keys()?);
        let mut logs = self.repository.storage.names(&root).await?;
        logs.sort_unstable_by(|one, other| other.cmp(one));
        // Names of history files are longer.
        for log in logs.into_iter().filter(|name| name.len() == 8) {
            let directory = format!("{root}/{log}");
            let names = self.repository.storage.names(&directory).await?.into_iter();
            let found = gather(names.map(|name| (format!("{directory}/{name}"), 0)));
            let segments = self.sort_out(found, &trusted).believed.into_iter().filter_map(|object| match object.file {
                WalFile::Segment(segment) if segment.timeline == timeline => Some((segment, object)),
                _ => None,
            });
            if let Some(newest) = segments.max() {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    /// Whether there is anything in it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn is_begun(&self) -> Result<bool, Error> {
        Ok(!self.repository.storage.names(&self.root).await?.is_empty())
    }

    /// The live line of the archive, without a listing of its segments: the history of the highest timeline names all its ancestors, and
    /// no other is read.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the history file is none, [`Error::Key`], [`Error::Storage`].
    pub async fn live_line(&self) -> Result<Lineage, Error> {
        for name in self.repository.storage.names(&self.root).await?.into_iter().rev() {
            // The first timeline has no history.
            let Some(file) = WalFile::parse(&format!("{name}.history")).filter(|file| file.timeline() > 1) else {
                continue;
            };
            match self.find(&file).await {
                Ok(Some(history)) => {
                    return Ok(Lineage::new([(file.timeline(), self.history(&history).await?)].into()));
                }
                Ok(None) => {}
                // C42: no timeline begins because somebody who writes here says so.
                Err(error @ Error::Untrusted { .. }) => tracing::warn!(repository = self.repository.name, "{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(Lineage::default())
    }

    /// How the timelines of the archive descend from each other, of files that were listed; and those whose history is there and
    /// cannot be read, each with the reason.
    ///
    /// # Errors
    /// What is not of the contents ([`Error::is_of_contents`]): then nothing is known of this archive.
    pub async fn lineage_of(&self, objects: &[WalObject]) -> Result<(Lineage, Vec<(u32, Error)>), Error> {
        let (mut histories, mut unread) = (BTreeMap::new(), Vec::new());
        for object in objects.iter().filter(|object| matches!(object.file, WalFile::History(_))) {
            match self.history(object).await {
                Ok(history) => drop(histories.insert(object.file.timeline(), history)),
                Err(error) if error.is_of_contents() => unread.push((object.file.timeline(), error)),
                Err(error) => return Err(error),
            }
        }
        Ok((Lineage::new(histories), unread))
    }

    /// The ancestors of a timeline, as its history file tells.
    async fn history(&self, object: &WalObject) -> Result<Vec<Switch>, Error> {
        let text = self.get(object).await?;
        let damaged = |reason| Error::Damaged { object: object.key.clone(), reason };
        wal::history(object.file.timeline(), &String::from_utf8_lossy(&text)).map_err(damaged)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn remove(&self, object: &WalObject) -> Result<(), Error> {
        // Before the file, so that none stays behind without it.
        for companion in &object.companions {
            self.repository.storage.delete(companion).await?;
        }
        self.repository.storage.delete(&object.key).await
    }
}

/// Whether there are no two contents.
fn is_one(objects: &[WalObject]) -> bool {
    objects.iter().all(|object| object.sha256 == objects[0].sha256)
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// As much of a segment as says how long it is.
const BEGINNING: usize = 36;

/// C36: how many bytes a file of WAL can have, by its kind and its beginning: a segment says its size in its first page
/// (PostgreSQL: `XLogLongPageHeaderData`), and what is none has no more than one of the usual size.
fn limit(file: &WalFile, beginning: &[u8]) -> u64 {
    match file {
        WalFile::Segment(_) | WalFile::Partial(_) => {
            let said = beginning.get(32..BEGINNING).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
            said.map(u64::from).filter(|size| wal::is_segment_size(*size)).unwrap_or(16 << 20)
        }
        _ => 1 << 20,
    }
}

#[cfg(test)]
mod tests;
