//! What broke off the reading of an object as it is stored.
//!
//! Decoders say of an error from below only that they could not decode. A line that went down would look like damage, and a good
//! backup would be given up: so the reader below them remembers.

use crate::Error;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// The error of the place itself, once there was one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<Option<io::Error>>>);

impl Broken {
    /// Reads what is stored, and remembers here what goes wrong with that.
    pub fn watch<R>(&self, inner: R) -> Watched<R> {
        Watched { inner, broken: self.clone() }
    }

    /// The error of an object whose reading broke off; it is told once.
    pub fn take(&self, key: &str) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(Error::storage("read", key))
    }
}

/// A reader of what is stored.
pub(crate) struct Watched<R> {
    inner: R,
    broken: Broken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        read.map_err(|error| {
            let told = io::Error::new(error.kind(), "reading was interrupted");
            self.broken.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            told
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BackupRef, ObjectKind, ObjectWriter, Repository, Storage, WalArchive,
        storage::{Directories, Local, Stat},
    };
    use sha2::{Digest, Sha256};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::AsyncReadExt;

    /// A place whose line goes down in the middle of the next object that is read.
    #[derive(Debug)]
    struct Flaky(Local, AtomicBool);

    struct Down;

    impl AsyncRead for Down {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the line went down")))
        }
    }

    #[async_trait::async_trait]
    impl Storage for Flaky {
        async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
            let whole = self.0.open(key).await?;
            match self.1.swap(false, Ordering::Relaxed) {
                true => Ok(Box::new(whole.take(1).chain(Down))),
                false => Ok(whole),
            }
        }
        async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error> {
            self.0.create(key).await
        }
        async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
            self.0.stat(key).await
        }
        async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
            self.0.list(prefix).await
        }
        async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
            self.0.names(prefix).await
        }
        async fn delete(&self, key: &str) -> Result<(), Error> {
            self.0.delete(key).await
        }
        async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
            self.0.delete_unfinished(prefix).await
        }
        async fn free_bytes(&self) -> Result<Option<u64>, Error> {
            self.0.free_bytes().await
        }
    }

    fn is_of_the_line(error: &Error) -> bool {
        let words = pgbosun_core::human::chain(error);
        error.is_transient() && matches!(error, Error::Storage { .. }) && words.ends_with("the line went down")
    }

    #[tokio::test]
    async fn a_line_that_goes_down_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let flaky = Arc::new(Flaky(Local::new(directory.path(), Directories::Unsynced), AtomicBool::new(false)));
        let repository = Repository::on("r", &crate::test_options(), flaky.clone());
        let place = BackupRef { cluster: "main".into(), system_id: "7".into(), label: "a".into() };
        let plain = b"what a cluster holds";
        for (name, stored) in [("data.tar", plain.to_vec()), ("data.tar.zst", zstd::bulk::compress(plain, 1).unwrap())]
        {
            let key = place.key(name);
            crate::repository::write_object(flaky.as_ref(), &key, stored.clone()).await.unwrap();
            let object = crate::Object {
                name: name.into(),
                kind: ObjectKind::Data,
                size: stored.len() as u64,
                plain_size: plain.len() as u64,
                sha256: hex::encode(Sha256::digest(&stored)),
            };
            flaky.1.store(true, Ordering::Relaxed);
            let whole = |reader: &mut dyn io::Read| {
                let mut read = Vec::new();
                let done = reader.read_to_end(&mut read);
                let damaged = |error: io::Error| Error::Damaged { object: "a".into(), reason: error.to_string() };
                done.map(|_| read).map_err(damaged)
            };
            let read = crate::read_volume(&repository, &key, &object, whole).await;
            assert!(is_of_the_line(&read.unwrap_err()), "{name}");
            flaky.1.store(true, Ordering::Relaxed);
            assert!(is_of_the_line(&crate::check_stored(&repository, &key, &object).await.unwrap_err()), "{name}");
        }
        let archive = WalArchive::new(&repository, "main", "7");
        let name =
            format!("main/7/wal/00000001/00000000/000000010000000000000001-{}", hex::encode(Sha256::digest(plain)));
        crate::repository::write_object(flaky.as_ref(), &name, plain.as_slice()).await.unwrap();
        let [object] = archive.list().await.unwrap().try_into().unwrap();
        flaky.1.store(true, Ordering::Relaxed);
        assert!(is_of_the_line(&archive.get(&object).await.unwrap_err()));
        assert_eq!(archive.get(&object).await.unwrap(), plain.as_slice());
    }
}
