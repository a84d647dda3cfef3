//! The WAL archive of one cluster in one repository.
//!
//! C2: the SHA-256 of the plain file is part of the object's name, so that the same file again is known without reading
//! it, and two different files under one name are found without any help from the store, and both kept.

use crate::{Encoding, Error, Frame, Frames, Repository, decode::Decoding, encode::Encoder, repository::write_object};
use bytes::{Bytes, BytesMut};
use pgbosun_core::{
    lineage::Lineage,
    wal::{self, WalFile},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};
use tokio_util::io::SyncIoBridge;

/// The archive of a cluster with this system identifier.
#[derive(Clone, Debug)]
pub struct WalArchive {
    repository: Repository,
    root: String,
}

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalObject {
    /// What it is.
    pub file: WalFile,
    /// SHA-256 of the plain file, hex.
    pub sha256: String,
    /// Where it lies.
    pub key: String,
    /// Bytes as stored; 0 where only its name was looked up.
    pub size: u64,
}

/// A file encoded for a repository.
#[derive(Clone, Debug)]
pub struct EncodedWal {
    name: String,
    sha256: String,
    suffix: String,
    bytes: Bytes,
}

impl EncodedWal {
    /// Bytes as they will be stored.
    pub const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Encodes a file while it is read: compressed and encrypted once for each encoding that is wanted.
pub struct WalEncoder {
    encoders: Vec<(Encoding, Encoder, BytesMut)>,
}

impl WalEncoder {
    /// Begins a file.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub async fn new(encodings: Vec<Encoding>, frames: &Arc<Frames>) -> Result<Self, Error> {
        let mut encoders: Vec<(Encoding, Encoder, BytesMut)> = Vec::new();
        for encoding in encodings {
            if !encoders.iter().any(|(known, ..)| *known == encoding) {
                let encoder = Encoder::new(&encoding, frames).await?;
                encoders.push((encoding, encoder, BytesMut::new()));
            }
        }
        Ok(Self { encoders })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn push(&mut self, plain: Frame) -> Result<(), Error> {
        let plain = Arc::new(plain);
        for (_, encoder, encoded) in &mut self.encoders {
            let came = encoder.push_frame(&plain).await.map_err(Error::storage("encode", "a file of WAL"))?;
            encoded.extend_from_slice(&came);
        }
        Ok(())
    }

    /// The file of this name, with this SHA-256, in each encoding.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn finish(self, file: &WalFile, sha256: &str) -> Result<Vec<(Encoding, EncodedWal)>, Error> {
        let mut files = Vec::new();
        for (encoding, encoder, mut bytes) in self.encoders {
            let (name, sha256, suffix) = (file.to_string(), sha256.to_owned(), encoding.suffix());
            bytes.extend_from_slice(&encoder.finish().await.map_err(Error::storage("encode", &name))?);
            files.push((encoding, EncodedWal { name, sha256, suffix, bytes: bytes.freeze() }));
        }
        Ok(files)
    }
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

    /// The file of this name, if it is archived.
    ///
    /// # Errors
    /// [`Error::Conflict`] where two files have the name, [`Error::Storage`].
    pub async fn find(&self, file: &WalFile) -> Result<Option<WalObject>, Error> {
        let (directory, name) = (self.directory(file), file.to_string());
        let names = self.repository.storage.names(&directory).await?;
        let mut found = names.iter().filter_map(|stored| parse(stored)).filter(|(known, _)| known == file);
        let Some((_, sha256)) = found.next() else { return Ok(None) };
        if let Some((_, other)) = found.find(|(_, other)| *other != sha256) {
            return Err(Error::Conflict {
                object: name,
                present: format!("sha256 {} and {}", short(&sha256), short(&other)),
            });
        }
        let key = names.iter().find(|stored| parse(stored).is_some_and(|(known, _)| known == *file));
        let key = format!("{directory}/{}", key.map(String::as_str).unwrap_or_default());
        Ok(Some(WalObject { file: file.clone(), sha256, key, size: 0 }))
    }

    /// Stores a file, durably (C1). The same file again is no error; another one under its name is (C2).
    /// Returns whether anything was written.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Storage`].
    pub async fn put(&self, file: &WalFile, encoded: &EncodedWal) -> Result<bool, Error> {
        match self.find(file).await? {
            Some(present) if present.sha256 == encoded.sha256 => {
                self.repository.storage.settle(&present.key).await?;
                return Ok(false);
            }
            Some(present) => {
                let present =
                    format!("sha256 {} where {} was to be stored", short(&present.sha256), short(&encoded.sha256));
                return Err(Error::Conflict { object: encoded.name.clone(), present });
            }
            None => {}
        }
        let key = format!("{}/{}-{}{}", self.directory(file), encoded.name, encoded.sha256, encoded.suffix);
        write_object(self.repository.storage.as_ref(), &key, encoded.bytes.clone()).await?;
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

    /// Copies a file to `to`, in bounded memory; its SHA-256 must be the one in its name.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Key`], [`Error::Storage`].
    pub async fn copy<W: Write + Send + 'static>(&self, object: &WalObject, mut to: W) -> Result<W, Error> {
        let damaged = |reason: String| Error::Damaged { object: object.key.clone(), reason };
        let stored = self.repository.storage.open(&object.key).await?;
        let plain = Decoding::of(&object.key).open(stored, &self.repository.identities()?).await?;
        let mut plain = SyncIoBridge::new(plain);
        let (key, file) = (object.key.clone(), object.file.clone());
        let copying = tokio::task::spawn_blocking(move || {
            // An error of the system is one of disk or network; all others are the decoders'.
            let passing = |error: &io::Error| {
                let kinds = [io::ErrorKind::TimedOut, io::ErrorKind::ConnectionReset];
                error.raw_os_error().is_some() || kinds.contains(&error.kind())
            };
            let undecoded = |error: io::Error| match passing(&error) {
                true => Error::storage("read", &key)(error),
                false => Error::Damaged { object: key.clone(), reason: format!("it does not decode: {error}") },
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

    /// All files, in order of timeline and position, history files first.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn list(&self) -> Result<Vec<WalObject>, Error> {
        let keys = self.repository.storage.list(&self.root).await?.into_iter();
        let mut found: Vec<_> = keys
            .filter_map(|(key, size)| {
                let (file, sha256) = parse(key.rsplit('/').next()?)?;
                Some(WalObject { file, sha256, key, size })
            })
            .collect();
        found.sort();
        Ok(found)
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
            if let Some(history) = self.find(&file).await? {
                return self.lineage_of(&[history]).await;
            }
        }
        Ok(Lineage::default())
    }

    /// How the timelines of the archive descend from each other, of files that were listed.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a history file is none, [`Error::Key`], [`Error::Storage`].
    pub async fn lineage_of(&self, objects: &[WalObject]) -> Result<Lineage, Error> {
        let mut histories = BTreeMap::new();
        for object in objects {
            let WalFile::History(timeline) = object.file else { continue };
            let text = self.get(object).await?;
            let damaged = |reason| Error::Damaged { object: object.key.clone(), reason };
            histories.insert(timeline, wal::history(timeline, &String::from_utf8_lossy(&text)).map_err(damaged)?);
        }
        Ok(Lineage::new(histories))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn remove(&self, object: &WalObject) -> Result<(), Error> {
        self.repository.storage.delete(&object.key).await
    }
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// `<file>-<sha256>` and what the encoding added.
fn parse(stored: &str) -> Option<(WalFile, String)> {
    let (name, rest) = stored.split_once('-')?;
    let sha256 = rest.get(..64).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((WalFile::parse(name)?, sha256.to_owned()))
}

/// As much of a segment as says how long it is.
const BEGINNING: usize = 36;

/// C36: how many bytes a file of WAL can have, by its kind and its beginning: a segment says its size in its first page
/// (PostgreSQL: `XLogLongPageHeaderData`), and what is none has no more than one of the usual size.
fn limit(file: &WalFile, beginning: &[u8]) -> u64 {
    match file {
        WalFile::Segment(_) | WalFile::Partial(_) => {
            let size = beginning.get(32..BEGINNING).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
            let is_size = size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size);
            if is_size { size.into() } else { 16 << 20 }
        }
        _ => 1 << 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Directories, Local};

    async fn stored(
        archive: &WalArchive,
        encoding: &Encoding,
        name: &str,
        plain: &'static [u8],
    ) -> Result<bool, Error> {
        let file = WalFile::parse(name).unwrap();
        let frames = Arc::default();
        let mut encoder = WalEncoder::new(vec![encoding.clone()], &frames).await?;
        let mut left = plain;
        while !left.is_empty() {
            let mut frame = Frame::new(&frames);
            left = frame.fill(left);
            encoder.push(frame).await?;
        }
        let (_, encoded) = encoder.finish(&file, &hex::encode(Sha256::digest(plain))).await?.remove(0);
        archive.put(&file, &encoded).await
    }

    #[tokio::test]
    async fn c2_the_same_again_is_success_and_another_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = age::x25519::Identity::generate();
        let identity = directory.path().join("key");
        std::fs::write(&identity, age::secrecy::ExposeSecret::expose_secret(&key.to_string())).unwrap();
        std::fs::set_permissions(&identity, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for encrypted in [false, true] {
            let mut options = crate::test_options();
            if encrypted {
                options.encrypt_to = vec![key.to_public().to_string()];
                options.identity_file = Some(identity.clone());
            }
            let place = directory.path().join(format!("repository-{encrypted}"));
            let repository = Repository::on("r", &options, Arc::new(Local::new(&place, Directories::Synced)));
            let archive = WalArchive::new(&repository, "main", "7");
            let encoding = Encoding::of(&options);
            let name = "000000010000000000000001";
            assert!(stored(&archive, &encoding, name, b"one").await.unwrap());
            assert!(!stored(&archive, &encoding, name, b"one").await.unwrap());
            assert!(matches!(stored(&archive, &encoding, name, b"two").await, Err(Error::Conflict { .. })));
            assert!(stored(&archive, &encoding, "00000002.history", b"history").await.unwrap());
            let all = archive.list().await.unwrap();
            assert_eq!(all.len(), 2);
            for object in &all {
                let plain = archive.get(object).await.unwrap();
                assert!(plain == "one" || plain == "history");
            }
            // A bit flipped is found.
            let path = place.join(&archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap().key);
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let object = archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap();
            assert!(matches!(archive.get(&object).await, Err(Error::Damaged { .. })));
        }
    }

    #[tokio::test]
    async fn c36_no_more_is_decoded_than_a_file_of_wal_can_have() {
        let directory = tempfile::tempdir().unwrap();
        let options = crate::test_options();
        let repository = Repository::on("r", &options, Arc::new(Local::new(directory.path(), Directories::Synced)));
        let (archive, encoding) = (WalArchive::new(&repository, "main", "7"), Encoding::of(&options));
        let mut segment = vec![0; 1 << 20];
        segment[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        let bomb = segment.iter().copied().chain([0]).collect();
        for (name, bytes, is_whole) in [
            ("000000010000000000000001", segment, true),
            ("000000010000000000000002", bomb, false),
            ("000000010000000000000003", vec![0; (16 << 20) + 1], false),
            ("00000002.history", vec![b'\n'; (1 << 20) + 1], false),
        ] {
            stored(&archive, &encoding, name, bytes.leak()).await.unwrap();
            let object = archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap();
            let read = archive.get(&object).await;
            assert_eq!(read.is_ok(), is_whole, "{name}");
            assert!(is_whole || read.unwrap_err().to_string().contains("more than"), "{name}");
        }
    }
}
