//! Frames: what is compressed by itself, and the memory for that.
//!
//! Invariants: once as many frames exist as are in use at a time, no more memory is asked for, since new pages cost more
//! than filling old ones; a frame goes back with the last who reads it.

use async_compression::{
    Level,
    tokio::write::{GzipEncoder, Lz4Encoder},
};
use pgbosun_core::config::Compression;
use std::{
    fmt,
    io::{self, Read},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::io::AsyncWriteExt;
use zstd::bulk::Compressor;

/// Plain bytes of one frame.
const FRAME: usize = 4 << 20;

/// Frames and compressors that can be used again; they go with the last who holds this.
#[derive(Default)]
pub struct Frames(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    plain: Vec<Vec<u8>>,
    benches: Vec<CompressBuffer>,
}

/// What compresses a frame, and where to.
#[derive(Default)]
pub(super) struct CompressBuffer {
    pub compressed: Vec<u8>,
    zstd: Option<Compressor<'static>>,
}

impl fmt::Debug for Frames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle();
        write!(formatter, "Frames({} and {} idle)", idle.plain.len(), idle.benches.len())
    }
}

impl Frames {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bench(&self) -> CompressBuffer {
        self.idle().benches.pop().unwrap_or_default()
    }

    pub(super) fn put_back(&self, bench: CompressBuffer) {
        self.idle().benches.push(bench);
    }
}

/// Plain bytes that are compressed together.
pub struct Frame {
    bytes: Vec<u8>,
    filled: usize,
    home: Arc<Frames>,
}

impl Frame {
    /// An empty one.
    pub fn new(home: &Arc<Frames>) -> Self {
        let bytes = home.idle().plain.pop().unwrap_or_else(|| vec![0; FRAME]);
        Self { bytes, filled: 0, home: Arc::clone(home) }
    }

    /// True where nothing more fits.
    pub const fn is_full(&self) -> bool {
        self.filled == FRAME
    }

    /// Takes what fits, and returns what does not.
    pub fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(FRAME - self.filled));
        self.bytes[self.filled..][..now.len()].copy_from_slice(now);
        self.filled += now.len();
        later
    }

    /// Reads up to `most` bytes more, as far as they fit; returns those, none of them at the end of what is read.
    ///
    /// # Errors
    /// What reading answered.
    pub fn read(&mut self, from: &mut impl Read, most: usize) -> io::Result<&[u8]> {
        let begin = self.filled;
        let end = FRAME.min(begin.saturating_add(most));
        self.filled += from.read(&mut self.bytes[begin..end])?;
        Ok(&self.bytes[begin..self.filled])
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.idle().plain.push(bytes);
    }
}

impl CompressBuffer {
    /// Compresses a frame. It gets no checksum of its own: every object has its SHA-256.
    pub async fn compress(&mut self, plain: &[u8], compression: Compression, level: u8) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.compressed);
        out.clear();
        let precisely = Level::Precise(level.into());
        self.compressed = match compression {
            Compression::None => {
                out.extend_from_slice(plain);
                out
            }
            Compression::Gzip => {
                let mut encoder = GzipEncoder::with_quality(out, precisely);
                encoder.write_all(plain).await?;
                encoder.shutdown().await?;
                encoder.into_inner()
            }
            Compression::Lz4 => {
                let mut encoder = Lz4Encoder::new(out);
                encoder.write_all(plain).await?;
                encoder.shutdown().await?;
                encoder.into_inner()
            }
            // In one piece: a stream would copy everything into a window of its own, which costs a third of the speed.
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    None => self.zstd.insert(Compressor::default()),
                };
                zstd.set_compression_level(level.into())?;
                out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                zstd.compress_to_buffer(plain, &mut out)?;
                out
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_what_fits_and_goes_back_with_its_last_reader() {
        let home = Arc::<Frames>::default();
        let mut first = Frame::new(&home);
        assert_eq!(first.fill(b"one"), b"");
        assert_eq!(first.read(&mut &b"two and more"[..], 3).unwrap(), b"two");
        assert_eq!(&*first, b"onetwo");
        let left = vec![7; FRAME];
        assert_eq!(first.fill(&left).len(), 6);
        assert!(first.is_full());
        assert_eq!(first.read(&mut &b"more"[..], 4).unwrap(), b"");
        let readers = [Arc::new(first)];
        let more = readers.clone();
        drop(readers);
        assert_eq!(home.idle().plain.len(), 0, "it is still read");
        drop(more);
        assert_eq!(home.idle().plain.len(), 1);
        assert!(Frame::new(&home).is_empty(), "what was in it is not seen again");
        assert_eq!(home.idle().plain.len(), 1, "the same memory");
    }
}
