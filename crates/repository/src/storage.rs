//! The seam to a place where objects can be kept, and its backends.

mod local;

pub use local::Local;

use crate::Error;
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Keeps objects under keys such as `main/7351…/backups/20261121T235900Z/backup.json`.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Begins an object. It does not exist until its writer is finished, and never where that is dropped.
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error>;

    /// Reads an object from its start.
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error>;

    /// The size of an object in bytes, or `None` where there is none.
    async fn stat(&self, key: &str) -> Result<Option<u64>, Error>;

    /// The keys of all objects below a prefix, in order. What is not finished is not among them.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// The names directly below a prefix, in order: what a directory listing would show.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Removes an object. One that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// Removes unfinished objects below a prefix that a dead process left. The caller knows that it is dead.
    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error>;

    /// Free bytes, where the place knows.
    async fn free_bytes(&self) -> Result<Option<u64>, Error>;
}

/// An object being written.
#[async_trait]
pub trait ObjectWriter: AsyncWrite + Send + Unpin {
    /// Makes the object durable and visible, and returns the size the place reports for it.
    async fn finish(self: Box<Self>) -> Result<u64, Error>;
}
