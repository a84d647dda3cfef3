//! Reading: hashed as stored, decompressed, handed to blocking code as a tar.

use crate::{Error, Object, ObjectKind, Storage, storage};
use async_compression::tokio::bufread::ZstdDecoder;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadBuf};
use tokio_util::io::SyncIoBridge;

/// Reads a small object whole.
///
/// # Errors
/// [`Error::Storage`].
pub async fn read_object(storage: &dyn Storage, key: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    storage.open(key).await?.read_to_end(&mut bytes).await.map_err(Error::storage("read", key))?;
    Ok(bytes)
}

/// Counts and hashes what is read.
struct HashingReader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    seen: Arc<Mutex<(Sha256, u64)>>,
}

impl AsyncRead for HashingReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if let Ok(mut seen) = self.seen.lock() {
            seen.0.update(&buffer.filled()[before..]);
            seen.1 += (buffer.filled().len() - before) as u64;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads one object of a backup through `each`, which runs on a blocking thread and is given the plain bytes: a tar,
/// or the manifest. Afterwards size and SHA-256 as stored must be what `backup.json` says.
///
/// # Errors
/// [`Error::Damaged`] where the object is not what was written, [`Error::Storage`], or what `each` returns.
pub async fn read_volume<T, E, F>(storage: &dyn storage::Storage, key: &str, object: &Object, each: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: FnOnce(&mut dyn Read) -> Result<T, E> + Send + 'static,
{
    let seen = Arc::new(Mutex::new((Sha256::new(), 0)));
    let stored =
        BufReader::with_capacity(1 << 18, HashingReader { inner: storage.open(key).await?, seen: Arc::clone(&seen) });
    let plain: Box<dyn AsyncRead + Send + Unpin> = match object.kind {
        ObjectKind::Manifest => Box::new(stored),
        _ => {
            let mut decoder = ZstdDecoder::new(stored);
            decoder.multiple_members(true);
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
    };
    let mut bridge = SyncIoBridge::new(plain);
    let result = tokio::task::spawn_blocking(move || {
        let result = each(&mut bridge);
        // What lies behind the end of the tar belongs to the object too.
        let drained = io::copy(&mut bridge, &mut io::sink());
        (result, drained)
    });
    let (result, drained) = match result.await {
        Ok(done) => done,
        Err(error) => return Err(Error::storage("read", key)(io::Error::other(error)).into()),
    };
    let damaged = |reason: String| Error::Damaged { object: key.to_owned(), reason };
    let (sha256, size) = match seen.lock() {
        Ok(seen) => (hex::encode(seen.0.clone().finalize()), seen.1),
        Err(_) => return Err(damaged("its reader failed".into()).into()),
    };
    // What was read first: where it is not what was written, that is the cause of whatever else went wrong.
    drained.map_err(|error| damaged(format!("it does not decompress: {error}")))?;
    if size != object.size {
        return Err(damaged(format!("{size} bytes are stored, {} were written", object.size)).into());
    }
    if sha256 != object.sha256 {
        return Err(damaged("its SHA-256 is not the one written down".into()).into());
    }
    result
}
