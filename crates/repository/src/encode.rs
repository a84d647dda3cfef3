//! What is done to bytes on their way into an object: compressed, then encrypted. `decode` is the way back.
//!
//! The name of an object tells how: `.zst`, `.gz`, `.lz4`, then `.age`. Data is compressed in frames of its own, which all
//! three formats allow: so several threads work on one stream, whatever the format, and no window moves through memory.
//! Memory is bounded by a few frames a thread.

use crate::{Error, Recipients};
use async_compression::{
    Level,
    tokio::write::{GzipEncoder, Lz4Encoder},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesOrdered};
use pgbosun_core::config::{self, Compression};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    runtime::Handle,
    task::JoinHandle,
};
use tokio_util::compat::{FuturesAsyncWriteCompatExt, TokioAsyncWriteCompatExt};
use zstd::bulk::Compressor;

/// Plain bytes of one frame.
const FRAME: usize = 4 << 20;

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

    /// On one thread: beside others, where more would only take memory.
    #[must_use]
    pub fn single_threaded(&self) -> Self {
        Self { threads: 1, ..self.clone() }
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
    frames: Option<Frames>,
    out: Box<dyn AsyncWrite + Send + Unpin>,
    gathered: Gathered,
}

/// A stream that is compressed frame by frame.
struct Frames {
    compression: Compression,
    level: u8,
    threads: usize,
    /// The frame that is being filled.
    filling: Frame,
    /// Frames that are being compressed, in order.
    running: FuturesOrdered<JoinHandle<io::Result<Frame>>>,
    /// Frames that can be filled again: so no memory is asked for while data passes.
    idle: Vec<Frame>,
    begun: bool,
}

/// One frame and what compresses it.
#[derive(Default)]
struct Frame {
    plain: Vec<u8>,
    compressed: Vec<u8>,
    zstd: Option<Compressor<'static>>,
}

impl Encoder {
    /// Leaves bytes as they are.
    pub fn plain() -> Self {
        let gathered = Gathered::default();
        Self { frames: None, out: Box::new(gathered.clone()), gathered }
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
        let frames = (encoding.compression != Compression::None).then(|| Frames {
            compression: encoding.compression,
            level: encoding.level,
            threads: usize::from(encoding.threads.max(1)),
            filling: Frame::default(),
            running: FuturesOrdered::new(),
            idle: Vec::new(),
            begun: false,
        });
        Ok(Self { frames, out, gathered })
    }

    /// Takes plain bytes and returns what came out so far.
    pub async fn push(&mut self, mut plain: &[u8]) -> io::Result<Bytes> {
        let Some(frames) = &mut self.frames else {
            self.out.write_all(plain).await?;
            return Ok(self.gathered.take());
        };
        while !plain.is_empty() {
            let (now, later) = plain.split_at(plain.len().min(FRAME - frames.filling.plain.len()));
            frames.filling.plain.extend_from_slice(now);
            plain = later;
            if frames.filling.plain.len() == FRAME {
                while frames.running.len() >= frames.threads {
                    frames.take(&mut self.out).await?;
                }
                frames.start();
            }
        }
        Ok(self.gathered.take())
    }

    /// Ends the object and returns the rest.
    pub async fn finish(mut self) -> io::Result<Bytes> {
        if let Some(mut frames) = self.frames {
            // Nothing at all is one empty frame.
            if !frames.filling.plain.is_empty() || !frames.begun {
                frames.start();
            }
            while !frames.running.is_empty() {
                frames.take(&mut self.out).await?;
            }
        }
        self.out.shutdown().await?;
        Ok(self.gathered.take())
    }
}

impl Frames {
    /// Begins to compress what was filled, away from the runtime's own threads.
    fn start(&mut self) {
        self.begun = true;
        let mut frame = std::mem::replace(&mut self.filling, self.idle.pop().unwrap_or_default());
        let (compression, level, runtime) = (self.compression, self.level, Handle::current());
        self.running.push_back(tokio::task::spawn_blocking(move || {
            runtime.block_on(frame.compress(compression, level))?;
            Ok(frame)
        }));
    }

    /// Waits for the oldest frame and hands it on.
    async fn take(&mut self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<()> {
        let Some(done) = self.running.next().await else { return Ok(()) };
        let mut frame = done.map_err(io::Error::other)??;
        out.write_all(&frame.compressed).await?;
        frame.plain.clear();
        self.idle.push(frame);
        Ok(())
    }
}

impl Frame {
    /// Compresses it. It gets no checksum of its own: every object has its SHA-256.
    async fn compress(&mut self, compression: Compression, level: u8) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.compressed);
        out.clear();
        let precisely = Level::Precise(level.into());
        self.compressed = match compression {
            Compression::None => out,
            Compression::Gzip => {
                let mut encoder = GzipEncoder::with_quality(out, precisely);
                encoder.write_all(&self.plain).await?;
                encoder.shutdown().await?;
                encoder.into_inner()
            }
            Compression::Lz4 => {
                let mut encoder = Lz4Encoder::new(out);
                encoder.write_all(&self.plain).await?;
                encoder.shutdown().await?;
                encoder.into_inner()
            }
            // In one piece: a stream would copy everything into a window of its own, which costs a third of the speed.
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    None => self.zstd.insert(Compressor::new(level.into())?),
                };
                out.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
                zstd.compress_to_buffer(&self.plain, &mut out)?;
                out
            }
        };
        Ok(())
    }
}
