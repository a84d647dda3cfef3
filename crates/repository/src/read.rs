//! Reading: hashed as stored, decrypted, decompressed, handed to blocking code as plain bytes.

use crate::{Error, Object, ObjectKind, Repository, Storage, broken::Broken, decode::Decoding};
use sha2::{Digest, Sha256};
use std::{
    io::{self, Read},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadBuf};
use tokio_util::io::SyncIoBridge;

/// The largest object that is read whole: catalogues, manifests, lists.
const SMALL: u64 = 1 << 30;

/// Plain bytes of a list of files or a manifest, which are held in memory: some millions of files.
const HELD: u64 = 1 << 30;

/// Reads a small object whole.
///
/// # Errors
/// [`Error::Storage`]; [`Error::Damaged`] where it is no small object.
pub async fn read_object(storage: &dyn Storage, key: &str) -> Result<Vec<u8>, Error> {
    read_up_to(storage, key, SMALL).await
}

/// Reads an object whole that is smaller than `most` bytes (C36).
pub(crate) async fn read_up_to(storage: &dyn Storage, key: &str, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = storage.open(key).await?.take(most);
    reader.read_to_end(&mut bytes).await.map_err(Error::storage("read", key))?;
    if bytes.len() as u64 == most {
        return Err(Error::Damaged { object: key.to_owned(), reason: "it is far too large for such an object".into() });
    }
    Ok(bytes)
}

/// Refuses to yield more than was declared.
struct Bounded<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            // Nothing more comes of it, whoever asks again.
            self.left = 0;
            let reason = format!("more than the {} bytes that it was made from", self.most);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        };
        self.left = left;
        Ok(read)
    }
}

/// Size and SHA-256 of what passed.
type Seen = Arc<Mutex<(Sha256, u64)>>;

/// Counts and hashes what is read.
struct HashingReader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    seen: Seen,
}

impl AsyncRead for HashingReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0.update(&buffer.filled()[before..]);
        seen.1 += (buffer.filled().len() - before) as u64;
        drop(seen);
        Poll::Ready(Ok(()))
    }
}

/// Compares what was read with what `backup.json` says.
fn compare(key: &str, object: &Object, seen: &Seen) -> Result<(), Error> {
    let damaged = |reason: String| Error::Damaged { object: key.to_owned(), reason };
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.1 != object.size {
        return Err(damaged(format!("{} bytes are stored, but {} were written", seen.1, object.size)));
    }
    if hex::encode(seen.0.clone().finalize()) != object.sha256 {
        return Err(damaged("its SHA-256 is not the recorded one".into()));
    }
    Ok(())
}

/// Reads one object of a backup through `each`, which runs on a blocking thread and is given the plain bytes: a tar,
/// or the manifest. Afterwards size and SHA-256 as stored must be what `backup.json` says.
///
/// # Errors
/// [`Error::Damaged`] where the object is not what was written, [`Error::Key`] where it cannot be decrypted,
/// [`Error::Storage`], or what `each` returns.
pub async fn read_volume<T, E, F>(repository: &Repository, key: &str, object: &Object, each: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: FnOnce(&mut dyn Read) -> Result<T, E> + Send + 'static,
{
    let seen: Seen = Arc::new(Mutex::new((Sha256::new(), 0)));
    let inner = repository.storage.open(key).await?;
    let broken = Broken::default();
    let hashed = broken.watch(HashingReader { inner, seen: Arc::clone(&seen) });
    let stored = BufReader::with_capacity(1 << 18, hashed);
    let plain = match Decoding::of(&object.name).open(key, stored, &repository.identities()?).await {
        Ok(plain) => plain,
        // A header that is no longer one looks like a wrong key: the hash of what is stored tells them apart.
        Err(error) => {
            if let Some(error) = broken.take(key) {
                return Err(error.into());
            }
            check_stored(repository, key, object).await?;
            return Err(error.into());
        }
    };
    // C36: a little that becomes much is read as far as was written down, whatever reads it.
    let most = match object.kind {
        ObjectKind::Manifest | ObjectKind::Index => object.plain_size.min(HELD),
        _ => object.plain_size,
    };
    let mut bridge = Bounded { inner: SyncIoBridge::new(plain), left: most, most };
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
    // What was read first: where it is not what was written, that is the cause of whatever else went wrong.
    if let Err(error) = drained {
        if let Some(error) = broken.take(key) {
            return Err(error.into());
        }
        check_stored(repository, key, object).await?;
        return Err(Error::Damaged { object: key.to_owned(), reason: format!("it does not decode: {error}") }.into());
    }
    compare(key, object, &seen).map_err(|damaged| broken.take(key).unwrap_or(damaged))?;
    result
}

/// Reads an object as it is stored and compares size and SHA-256: all that can be checked without a key.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Storage`].
pub async fn check_stored(repository: &Repository, key: &str, object: &Object) -> Result<(), Error> {
    let seen: Seen = Arc::new(Mutex::new((Sha256::new(), 0)));
    let inner = repository.storage.open(key).await?;
    let mut reader = HashingReader { inner, seen: Arc::clone(&seen) };
    let mut buffer = vec![0; 1 << 18];
    while reader.read(&mut buffer).await.map_err(Error::storage("read", key))? > 0 {}
    compare(key, object, &seen)
}

/// True where an object of this name can only be read with a key.
pub fn is_encrypted(name: &str) -> bool {
    Decoding::of(name).is_encrypted()
}
