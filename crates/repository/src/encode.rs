//! What is done to bytes on their way into an object: compressed, then encrypted. `decode` is the way back.
//!
//! The name of an object tells how: `.zst`, `.gz`, `.lz4`, then `.age`. Data is compressed in frames of its own, which all
//! three formats allow: so several threads work on one stream, whatever the format, and no window moves through memory.
//! Memory is bounded by a few frames a thread.

mod frames;

pub use frames::{Frame, Frames};

use crate::{Error, KeyError, Recipients};
use bytes::{Bytes, BytesMut};
use frames::CompressBuffer;
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

/// How a repository wants its objects.
#[derive(Clone, Debug)]
pub struct Encoding {
    compression: Compression,
    level: u8,
    threads: u8,
    recipients: Recipients,
}

/// Equal where the same bytes come out, on however many threads.
impl PartialEq for Encoding {
    fn eq(&self, other: &Self) -> bool {
        (self.compression, self.level, &self.recipients) == (other.compression, other.level, &other.recipients)
    }
}

impl Eq for Encoding {}

impl Encoding {
    /// As configured.
    pub fn of(options: &config::RepositoryOptions) -> Self {
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
    compressing: Option<Compressing>,
    out: Box<dyn AsyncWrite + Send + Unpin>,
    gathered: Gathered,
}

/// A stream that is compressed frame by frame.
struct Compressing {
    compression: Compression,
    level: u8,
    threads: usize,
    frames: Arc<Frames>,
    /// The frame that is being filled.
    filling: Option<Frame>,
    /// Frames that are being compressed, in order.
    running: FuturesOrdered<JoinHandle<io::Result<CompressBuffer>>>,
    begun: bool,
}

impl Encoder {
    /// Leaves bytes as they are.
    pub fn plain() -> Self {
        let gathered = Gathered::default();
        Self { compressing: None, out: Box::new(gathered.clone()), gathered }
    }

    /// Encodes with frames from here.
    pub async fn new(encoding: &Encoding, frames: &Arc<Frames>) -> Result<Self, Error> {
        let gathered = Gathered::default();
        let out: Box<dyn AsyncWrite + Send + Unpin> = if encoding.recipients.is_empty() {
            Box::new(gathered.clone())
        } else {
            let encryptor = encoding.recipients.encryptor()?;
            let wrapped = encryptor.wrap_async_output(gathered.clone().compat_write()).await;
            Box::new(wrapped.map_err(|error| KeyError::Encrypt(error.into()))?.compat_write())
        };
        let compressing = (encoding.compression != Compression::None).then(|| Compressing {
            compression: encoding.compression,
            level: encoding.level,
            threads: usize::from(encoding.threads.max(1)),
            frames: Arc::clone(frames),
            filling: None,
            running: FuturesOrdered::new(),
            begun: false,
        });
        Ok(Self { compressing, out, gathered })
    }

    /// Takes plain bytes and returns what came out so far.
    pub async fn push(&mut self, mut plain: &[u8]) -> io::Result<Bytes> {
        let Some(compressing) = &mut self.compressing else {
            self.out.write_all(plain).await?;
            return Ok(self.gathered.take());
        };
        while !plain.is_empty() {
            let mut filling = compressing.filling.take().unwrap_or_else(|| Frame::new(&compressing.frames));
            plain = filling.fill(plain);
            if filling.is_full() {
                compressing.add(Arc::new(filling), &mut self.out).await?;
            } else {
                compressing.filling = Some(filling);
            }
        }
        Ok(self.gathered.take())
    }

    /// Takes a frame as it is, without copying it, and returns what came out so far. Not to be mixed with [`Self::push`].
    pub async fn push_frame(&mut self, plain: &Arc<Frame>) -> io::Result<Bytes> {
        match &mut self.compressing {
            Some(compressing) => compressing.add(Arc::clone(plain), &mut self.out).await?,
            None => self.out.write_all(plain).await?,
        }
        Ok(self.gathered.take())
    }

    /// Ends the object and returns the rest.
    pub async fn finish(mut self) -> io::Result<Bytes> {
        if let Some(mut compressing) = self.compressing {
            let rest = compressing.filling.take();
            // Nothing at all is one empty frame.
            if rest.is_some() || !compressing.begun {
                let rest = rest.unwrap_or_else(|| Frame::new(&compressing.frames));
                compressing.add(Arc::new(rest), &mut self.out).await?;
            }
            while compressing.take(&mut self.out).await? {}
        }
        self.out.shutdown().await?;
        Ok(self.gathered.take())
    }
}

impl Compressing {
    /// Begins to compress a frame, away from the runtime's own threads, once one of them is free.
    async fn add(&mut self, plain: Arc<Frame>, out: &mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<()> {
        while self.running.len() >= self.threads {
            self.take(out).await?;
        }
        self.begun = true;
        let mut bench = self.frames.bench();
        let (compression, level, runtime) = (self.compression, self.level, Handle::current());
        self.running.push_back(tokio::task::spawn_blocking(move || {
            runtime.block_on(bench.compress(&plain, compression, level))?;
            Ok(bench)
        }));
        Ok(())
    }

    /// Waits for the oldest frame and hands it on; says whether there was one.
    async fn take(&mut self, out: &mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<bool> {
        let Some(done) = self.running.next().await else { return Ok(false) };
        let bench = done.map_err(io::Error::other)??;
        out.write_all(&bench.compressed).await?;
        self.frames.put_back(bench);
        Ok(true)
    }
}
