//! What is done to bytes on their way into an object: compressed, then encrypted; and the way back.
//!
//! The name of an object tells how: `.zst`, `.gz`, `.lz4`, then `.age`. Memory is bounded by the compressor's window and
//! threads.

use crate::{Error, Identities, Recipients};
use async_compression::{
    Level,
    tokio::{
        bufread::{GzipDecoder, Lz4Decoder, ZstdDecoder},
        write::{GzipEncoder, Lz4Encoder, ZstdEncoder},
    },
    zstd::CParameter,
};
use bytes::{Bytes, BytesMut};
use pgbosun_core::config::{self, Compression};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_util::compat::{
    FuturesAsyncReadCompatExt, FuturesAsyncWriteCompatExt, TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt,
};

/// How a repository wants its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    compression: Compression,
    level: u8,
    threads: u8,
    recipients: Recipients,
}

impl Encoding {
    /// As configured.
    pub fn of(options: &config::Repository) -> Self {
        Self {
            compression: options.compression,
            level: options.level(),
            threads: options.compression_threads,
            recipients: Recipients::new(&options.encrypt_to),
        }
    }

    /// Without compression: what is compressed already.
    #[must_use]
    pub fn uncompressed(&self) -> Self {
        Self { compression: Compression::None, ..self.clone() }
    }

    /// On the calling thread alone: for what is small.
    #[must_use]
    pub fn single_threaded(&self) -> Self {
        Self { threads: 0, ..self.clone() }
    }

    /// How the names of its objects end.
    pub fn suffix(&self) -> String {
        format!("{}{}", self.compression.suffix(), if self.recipients.is_empty() { "" } else { ".age" })
    }

    /// Whom it is encrypted to.
    pub const fn recipients(&self) -> &Recipients {
        &self.recipients
    }

    /// The name of the compression.
    pub const fn compression(&self) -> Compression {
        self.compression
    }
}

/// Where encoded bytes gather until they are taken.
#[derive(Clone, Default)]
struct Gathered(Arc<Mutex<BytesMut>>);

impl Gathered {
    fn take(&self) -> Bytes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).split().freeze()
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Encodes one object.
pub(crate) struct Encoder {
    stack: Box<dyn AsyncWrite + Send + Unpin>,
    gathered: Gathered,
}

impl Encoder {
    /// Leaves bytes as they are.
    pub fn plain() -> Self {
        let gathered = Gathered::default();
        Self { stack: Box::new(gathered.clone()), gathered }
    }

    pub async fn new(encoding: &Encoding) -> Result<Self, Error> {
        let gathered = Gathered::default();
        let out: Box<dyn AsyncWrite + Send + Unpin> = if encoding.recipients.is_empty() {
            Box::new(gathered.clone())
        } else {
            let encryptor = encoding.recipients.encryptor()?;
            let wrapped = encryptor.wrap_async_output(gathered.clone().compat_write()).await;
            Box::new(wrapped.map_err(|error| Error::Key(error.to_string()))?.compat_write())
        };
        let level = Level::Precise(encoding.level.into());
        let stack: Box<dyn AsyncWrite + Send + Unpin> = match encoding.compression {
            Compression::None => out,
            Compression::Gzip => Box::new(GzipEncoder::with_quality(out, level)),
            Compression::Lz4 => Box::new(Lz4Encoder::new(out)),
            Compression::Zstd => {
                // No checksum of its own: every object has its SHA-256.
                let threads = [CParameter::nb_workers(encoding.threads.into())];
                Box::new(ZstdEncoder::with_quality_and_params(out, level, &threads))
            }
        };
        Ok(Self { stack, gathered })
    }

    /// Takes plain bytes and returns what came out so far.
    pub async fn push(&mut self, plain: &[u8]) -> io::Result<Bytes> {
        self.stack.write_all(plain).await?;
        Ok(self.gathered.take())
    }

    /// Ends the object and returns the rest.
    pub async fn finish(mut self) -> io::Result<Bytes> {
        self.stack.shutdown().await?;
        Ok(self.gathered.take())
    }
}

/// What an object's name says was done to it.
pub(crate) struct Decoding {
    encrypted: bool,
    compression: Compression,
}

impl Decoding {
    pub fn of(name: &str) -> Self {
        let (inner, encrypted) = name.strip_suffix(".age").map_or((name, false), |inner| (inner, true));
        let known = [Compression::Zstd, Compression::Gzip, Compression::Lz4];
        let compression = known.into_iter().find(|known| inner.ends_with(known.suffix())).unwrap_or(Compression::None);
        Self { encrypted, compression }
    }

    /// True where an identity is needed to read it.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The plain bytes of what `stored` yields.
    pub async fn open(
        &self,
        stored: impl AsyncRead + Send + Unpin + 'static,
        identities: &Identities,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        const BUFFER: usize = 1 << 18;
        let compressed: Box<dyn AsyncRead + Send + Unpin> = if self.encrypted {
            let buffered = BufReader::with_capacity(BUFFER, stored).compat();
            let key = |error: age::DecryptError| match error {
                age::DecryptError::NoMatchingKeys if identities.is_empty() => {
                    Error::Key("no identity is configured".into())
                }
                age::DecryptError::NoMatchingKeys => Error::Key("none of the identities fits".into()),
                other => Error::Key(other.to_string()),
            };
            let decryptor = age::Decryptor::new_async_buffered(buffered).await.map_err(key)?;
            Box::new(decryptor.decrypt_async(identities.iter()).map_err(key)?.compat())
        } else {
            Box::new(stored)
        };
        let buffered = BufReader::with_capacity(BUFFER, compressed);
        Ok(match self.compression {
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
        })
    }
}
