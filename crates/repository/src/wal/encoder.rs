//! Files of WAL on their way into an archive: encoded once for each encoding that is wanted.

use super::WalObject;
use crate::{Encoding, Error, Frame, Frames, encode::Encoder};
use bytes::{Bytes, BytesMut};
use pgbosun_core::wal::WalFile;
use std::sync::Arc;

/// A file encoded for a repository.
#[derive(Clone, Debug)]
pub struct EncodedWal {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) suffix: String,
    pub(super) bytes: Bytes,
    /// That of the original, where this is a copy.
    pub(super) signature: Option<String>,
}

impl EncodedWal {
    /// Encodes a file that is in memory.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Storage`].
    pub async fn of(
        encoding: &Encoding,
        frames: &Arc<Frames>,
        file: &WalFile,
        sha256: &str,
        plain: &[u8],
    ) -> Result<Self, Error> {
        let mut encoder = WalEncoder::new(vec![encoding.clone()], frames).await?;
        let mut left = plain;
        while !left.is_empty() {
            let mut frame = Frame::new(frames);
            left = frame.fill(left);
            encoder.push(frame).await?;
        }
        let (_, encoded) = encoder.finish(file, sha256).await?.remove(0);
        Ok(encoded)
    }

    /// Keeps the signature of what this is a copy of, for a repository into which this host does not sign.
    pub fn copy_of(self, original: &WalObject) -> Self {
        Self { signature: original.signature.clone(), ..self }
    }

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
            let came = encoder.push_frame(&plain).await.map_err(Error::storage("encode", "a WAL file"))?;
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
            files.push((encoding, EncodedWal { name, sha256, suffix, bytes: bytes.freeze(), signature: None }));
        }
        Ok(files)
    }
}
