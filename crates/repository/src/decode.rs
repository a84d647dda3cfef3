//! From an object as it is stored to the bytes it was made of. Its name says what was done to them.

use crate::{Error, Identities, KeyError};
use async_compression::tokio::bufread::{GzipDecoder, Lz4Decoder, ZstdDecoder};
use pgbosun_core::config::Compression;
use std::io::ErrorKind;
use tokio::io::{AsyncRead, BufReader};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Bytes that a reader holds.
const BUFFER: usize = 1 << 18;

/// What an object's name says was done to it.
pub(crate) struct Decoding {
    encrypted: bool,
    compression: Compression,
}

impl Decoding {
    pub fn of(name: &str) -> Self {
        let (inner, encrypted) = name.strip_suffix(".age").map_or((name, false), |inner| (inner, true));
        Self { encrypted, compression: Compression::of(inner) }
    }

    /// True where an identity is needed to read it.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The plain bytes of what `stored` yields, which is this object.
    ///
    /// # Errors
    /// [`Error::Key`] where no identity fits, [`Error::Damaged`], [`Error::Storage`].
    pub async fn open(
        &self,
        object: &str,
        stored: impl AsyncRead + Send + Unpin + 'static,
        identities: &Identities,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let compressed: Box<dyn AsyncRead + Send + Unpin> = if self.encrypted {
            let buffered = BufReader::with_capacity(BUFFER, stored).compat();
            let key = |error: age::DecryptError| match error {
                age::DecryptError::NoMatchingKeys if identities.is_empty() => {
                    KeyError::Missing { object: object.to_owned() }.into()
                }
                age::DecryptError::NoMatchingKeys => KeyError::Other { object: object.to_owned() }.into(),
                // Reading broke off, which may pass; an end too early is one of the object.
                age::DecryptError::Io(error) if error.kind() != ErrorKind::UnexpectedEof => {
                    Error::storage("read", object)(error)
                }
                other => Error::Damaged { object: object.to_owned(), reason: format!("it does not decrypt: {other}") },
            };
            let decryptor = age::Decryptor::new_async_buffered(buffered).await.map_err(key)?;
            Box::new(decryptor.decrypt_async(identities.iter()).map_err(key)?.compat())
        } else {
            Box::new(stored)
        };
        Ok(decompress(self.compression, compressed))
    }
}

/// What `compressed` yields, decompressed: several members or frames are one text.
pub fn decompress(
    compression: Compression,
    compressed: impl AsyncRead + Send + Unpin + 'static,
) -> Box<dyn AsyncRead + Send + Unpin> {
    let buffered = BufReader::with_capacity(BUFFER, compressed);
    match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => {
            let mut decoder = GzipDecoder::new(buffered);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
        Compression::Lz4 => {
            let mut decoder = Lz4Decoder::new(buffered);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
        Compression::Zstd => {
            let mut decoder = ZstdDecoder::new(buffered);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
    }
}
