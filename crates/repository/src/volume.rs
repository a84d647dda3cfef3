//! Writing: hashed as stored, compressed by zstd on several threads, cut into volumes at file boundaries.
//!
//! Invariants: bytes pass once; what the storage reports as stored is compared with what was counted (C16) before an
//! object counts; memory is bounded by the compressor's window and threads, whatever the size of the data.

use crate::{
    Error, Object, ObjectKind, ObjectWriter, Repository, Storage,
    repository::BackupRef,
    tar_stream::{Piece, TarStream},
};
use async_compression::{Level, tokio::write::ZstdEncoder, zstd::CParameter};
use sha2::{Digest, Sha256};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// An object as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// Stores an object as it is.
///
/// # Errors
/// [`Error::Storage`], [`Error::Damaged`] where the storage reports another size than was written.
pub async fn write_object(storage: &dyn Storage, key: &str, bytes: &[u8]) -> Result<Stored, Error> {
    let mut writer = HashingWriter::new(storage.create(key).await?);
    writer.write_all(bytes).await.map_err(Error::storage("write", key))?;
    writer.finish(key).await
}

/// Counts and hashes what passes to an object (C16).
struct HashingWriter {
    inner: Box<dyn ObjectWriter>,
    hash: Sha256,
    size: u64,
}

impl HashingWriter {
    fn new(inner: Box<dyn ObjectWriter>) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    async fn finish(self, key: &str) -> Result<Stored, Error> {
        let reported = self.inner.finish().await?;
        if reported != self.size {
            let reason = format!("{} bytes were written and {reported} are stored", self.size);
            return Err(Error::Damaged { object: key.to_owned(), reason });
        }
        Ok(Stored { size: self.size, sha256: hex::encode(self.hash.finalize()) })
    }
}

impl AsyncWrite for HashingWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, data))?;
        self.hash.update(&data[..written]);
        self.size += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

/// An object being written as it is, piece by piece.
pub struct PlainWriter {
    writer: HashingWriter,
    key: String,
    object: Object,
}

impl PlainWriter {
    /// Begins an object of a backup.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn create(
        repository: &Repository,
        place: &BackupRef,
        name: &str,
        kind: ObjectKind,
    ) -> Result<Self, Error> {
        let key = place.key(name);
        let writer = HashingWriter::new(repository.storage.create(&key).await?);
        Ok(Self { writer, key, object: Object::new(name, kind) })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.object.plain_size += bytes.len() as u64;
        self.writer.write_all(bytes).await.map_err(Error::storage("write", &self.key))
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub async fn finish(self) -> Result<Object, Error> {
        let stored = self.writer.finish(&self.key).await?;
        Ok(Object { size: stored.size, sha256: stored.sha256, ..self.object })
    }
}

/// One volume being written: tar, compressed.
pub struct VolumeWriter {
    encoder: ZstdEncoder<HashingWriter>,
    key: String,
    object: Object,
}

impl VolumeWriter {
    /// Begins a volume of a backup.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn create(
        repository: &Repository,
        place: &BackupRef,
        name: &str,
        kind: ObjectKind,
    ) -> Result<Self, Error> {
        let key = place.key(name);
        let object = repository.storage.create(&key).await?;
        let level = Level::Precise(repository.options.compression_level.into());
        let threads = CParameter::nb_workers(repository.options.compression_threads.into());
        let encoder = ZstdEncoder::with_quality_and_params(
            HashingWriter::new(object),
            level,
            &[threads, CParameter::checksum_flag(true)],
        );
        Ok(Self { encoder, key, object: Object::new(name, kind) })
    }

    /// Notes that a file begins here.
    pub fn file(&mut self, name: &str) {
        self.object.files.push(name.to_owned());
    }

    /// Writes bytes of the tar.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.object.plain_size += bytes.len() as u64;
        self.encoder.write_all(bytes).await.map_err(Error::storage("write", &self.key))
    }

    /// Begins a file of this size; its contents follow with [`Self::write`], and whole blocks of 512 bytes end it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn begin_file(&mut self, name: &str, size: u64) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(Error::storage("write", &self.key))?;
        header.set_size(size);
        header.set_mode(0o600);
        header.set_cksum();
        self.file(name);
        self.write(header.as_bytes()).await
    }

    /// Adds a small file.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.begin_file(name, bytes.len() as u64).await?;
        self.write(bytes).await?;
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        self.write(&[0; 512][..padding]).await
    }

    /// Ends the tar and makes the volume durable.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub async fn finish(mut self) -> Result<Object, Error> {
        self.write(&[0; 1024]).await?;
        self.encoder.shutdown().await.map_err(Error::storage("write", &self.key))?;
        let stored = self.encoder.into_inner().finish(&self.key).await?;
        Ok(Object { size: stored.size, sha256: stored.sha256, ..self.object })
    }
}

/// Turns one tar stream of any length into volumes.
pub struct TarVolumes<'a> {
    repository: &'a Repository,
    place: &'a BackupRef,
    prefix: String,
    kind: ObjectKind,
    stream: TarStream,
    current: Option<VolumeWriter>,
    done: Vec<Object>,
}

impl<'a> TarVolumes<'a> {
    /// Begins the volumes `<prefix>.0001.tar.zst`, …
    pub fn new(repository: &'a Repository, place: &'a BackupRef, prefix: &str, kind: ObjectKind) -> Self {
        let prefix = prefix.to_owned();
        Self { repository, place, prefix, kind, stream: TarStream::default(), current: None, done: Vec::new() }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`Error::Archive`] where it is no tar, [`Error::Storage`].
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        // The pieces are collected first, since the parser's callback cannot wait for storage.
        let mut pieces: Vec<Step> = Vec::new();
        let start = data.as_ptr() as usize;
        self.stream.push(data, |piece| {
            pieces.push(match piece {
                Piece::File { name, header } => Step::File(name, header.to_vec()),
                Piece::Contents(bytes) => {
                    let from = bytes.as_ptr() as usize - start;
                    Step::Contents(from..from + bytes.len())
                }
                Piece::Boundary => Step::Boundary,
            });
            Ok(())
        })?;
        for piece in pieces {
            match piece {
                Step::File(name, header) => {
                    let volume = self.volume().await?;
                    volume.file(&name);
                    volume.write(&header).await?;
                }
                Step::Contents(range) => self.volume().await?.write(&data[range]).await?,
                Step::Boundary => {
                    let full = self.repository.options.volume_size.as_u64();
                    if let Some(volume) = self.current.take_if(|volume| volume.object.plain_size >= full) {
                        self.done.push(volume.finish().await?);
                    }
                }
            }
        }
        Ok(())
    }

    async fn volume(&mut self) -> Result<&mut VolumeWriter, Error> {
        let volume = match self.current.take() {
            Some(volume) => volume,
            None => {
                let name = format!("{}.{:04}.tar.zst", self.prefix, self.done.len() + 1);
                VolumeWriter::create(self.repository, self.place, &name, self.kind).await?
            }
        };
        Ok(self.current.insert(volume))
    }

    /// Ends the stream and returns its volumes.
    ///
    /// # Errors
    /// [`Error::Archive`] where the stream ended within a file, [`Error::Storage`].
    pub async fn finish(mut self) -> Result<Vec<Object>, Error> {
        self.stream.finish()?;
        if let Some(volume) = self.current.take() {
            self.done.push(volume.finish().await?);
        }
        Ok(self.done)
    }
}

enum Step {
    File(String, Vec<u8>),
    Contents(std::ops::Range<usize>),
    Boundary,
}
