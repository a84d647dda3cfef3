//! The seam to a place where objects can be kept, and its backends.

mod bounded;
mod local;
mod object_store;
mod sftp;
mod tree;

pub use local::{Directories, Local};
pub use object_store::ObjectStore;
pub use sftp::Sftp;
pub(crate) use tree::Foreign;

use crate::Error;
use async_trait::async_trait;
use bytes::Bytes;
use pgbosun_core::config::{self, StoreOptions, Variant};
use std::{
    any::Any,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// The storage of a repository, or why it cannot be used as configured.
type Opened = Result<Arc<dyn Storage>, String>;

/// A type of store: the options that it declares, and how one is made from them.
struct Store {
    variant: Variant<dyn StoreOptions>,
    /// `None` where the repository is of another type.
    open: fn(&config::Repository, Option<&'static str>) -> Option<Opened>,
}

/// The one list of them.
const STORES: [Store; 5] = [local::STORE, sftp::STORE, object_store::S3, object_store::GCS, object_store::AZURE];

/// What they declare, for reading configuration and for its reference.
pub fn stores() -> Vec<Variant<dyn StoreOptions>> {
    STORES.iter().map(|store| store.variant).collect()
}

/// The options of a repository, where it is of the type that has these.
fn own<T: 'static>(repository: &config::Repository) -> Option<&T> {
    (repository.store.as_ref() as &dyn Any).downcast_ref()
}

/// The place a repository is configured to lie in. Nothing is read or connected yet. In a directory nothing is stored but
/// the object `mark` until that is there.
///
/// # Errors
/// [`Error::Configuration`] where it cannot be used as configured.
pub fn open(
    name: &str,
    repository: &config::Repository,
    mark: Option<&'static str>,
) -> Result<Arc<dyn Storage>, Error> {
    let opened = STORES.iter().find_map(|store| (store.open)(repository, mark));
    let opened = opened.unwrap_or_else(|| Err("no store has these options".into()));
    opened.map_err(|reason| Error::Configuration { repository: name.to_owned(), reason })
}

/// A repository in a directory of this machine, with the defaults for everything else. `None` never, as long as they are valid, which
/// a test holds.
pub fn local_repository(path: &Path) -> Option<config::Repository> {
    config::repository(&local::STORE.variant, &[("path", path.display().to_string())])
}

/// Keeps objects under keys such as `main/7351…/backups/20261121T235900Z/backup.json`.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Begins an object. It does not exist until its writer is finished, and never where that is dropped.
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error>;

    /// Reads an object from its start.
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error>;

    /// Makes sure that an object which is there is durable: whoever stored it may have died just before that (C1).
    async fn settle(&self, _key: &str) -> Result<(), Error> {
        Ok(())
    }

    /// What is known of an object, or `None` where there is none.
    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error>;

    /// All objects below a prefix with their sizes in bytes, in order. What is not finished is not among them.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error>;

    /// The names directly below a prefix, in order: what a directory listing would show.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Removes an object. One that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// Removes unfinished objects below a prefix that a dead process left. The caller knows that it is dead.
    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error>;

    /// Removes unfinished objects below a prefix of which the place itself knows that nobody writes them any more.
    async fn sweep(&self, _prefix: &str) -> Result<u64, Error> {
        Ok(0)
    }

    /// Free bytes, where the place knows.
    async fn free_bytes(&self) -> Result<Option<u64>, Error>;

    /// Says where others could lead us elsewhere by links (C36), which this place cannot exclude by itself.
    async fn exposed(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }
}

/// What a place knows of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When it was stored, milliseconds of the Unix epoch, where the place knows.
    pub modified: Option<i64>,
}

/// An object being written.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Takes the next bytes.
    async fn write(&mut self, data: Bytes) -> Result<(), Error>;

    /// Makes the object durable and visible, and returns the size the place reports for it.
    async fn finish(self: Box<Self>) -> Result<u64, Error>;
}

/// A reader over a network: whatever goes wrong under way is the way's fault, and may pass.
struct OverNetwork<R>(R);

impl<R: AsyncRead + Unpin> AsyncRead for OverNetwork<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => error,
            _ => io::Error::new(io::ErrorKind::ConnectionReset, error),
        })
    }
}

/// How the name of an unfinished object ends, where unfinished objects have names.
const UNFINISHED: &str = ".unfinished";

/// The temporary name of an object: hidden, and no two writers share it.
fn temporary_name(name: &str) -> String {
    format!(".{name}.{}{UNFINISHED}", uuid::Uuid::now_v7().simple())
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}
