//! Buckets: S3-compatible stores, Google Cloud Storage and Azure Blob Storage, through opendal.
//!
//! An object appears whole when its upload is completed, which the store itself promises. Requests that fail for a
//! passing reason are repeated, and none waits for ever. Parts carry checksums where the store takes them (S3: CRC-32C).

mod azure;
mod gcs;
mod s3;

pub(super) const S3: Store = store::<s3::S3Options>();
pub(super) const GCS: Store = store::<gcs::GcsOptions>();
pub(super) const AZURE: Store = store::<azure::AzureOptions>();

use super::{ObjectWriter, OverNetwork, Stat, Storage, Store, bounded::Bounded, own};
use crate::Error;
use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use futures::TryStreamExt;
use opendal::{
    HttpTransporter, OperationContext, Operator,
    layers::{RetryLayer, ThrottleLayer, TimeoutLayer},
};
use pgbosun_core::config::{Metadata, Reader, RepositoryOptions, Section, StoreOptions, Variant};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::io::AsyncRead;
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// Objects in a bucket, below a prefix.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    operator: Operator,
    part_size: usize,
    metadata: Vec<(String, String)>,
}

/// The most names of one listing: segments of 80 TB of WAL.
const NAMES: usize = 5_000_000;

/// Parts of one object that are under way at the same time.
const CONCURRENT_PARTS: usize = 2;

impl ObjectStore {
    /// A bucket through this operator. Nothing is asked of it yet.
    fn open(common: &RepositoryOptions, bucket: Bucket<'_>, operator: Operator) -> Result<Arc<dyn Storage>, String> {
        let transport = opendal_http_transport_reqwest::ReqwestTransport::new(client(common.timeout, bucket.ca_file)?);
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(Bounded(transport)));
        let mut operator = operator
            .with_context(context)
            .layer(TimeoutLayer::new().with_timeout(common.timeout).with_io_timeout(common.timeout))
            .layer(
                RetryLayer::new()
                    .with_max_times(common.request_retries.into())
                    .with_min_delay(Duration::from_millis(500))
                    .with_max_delay(Duration::from_secs(15))
                    .with_jitter(),
            );
        if let Some(limit) = common.rate_limit {
            let rate = u32::try_from(limit.bytes()).unwrap_or(u32::MAX);
            // One part must fit, or it could never be sent.
            let burst = u32::try_from(bucket.part_size.as_u64()).unwrap_or(u32::MAX).max(rate);
            operator = operator.layer(ThrottleLayer::new(rate, burst));
        }
        let metadata = bucket.metadata.0.clone().into_iter().collect();
        let part_size = usize::try_from(bucket.part_size.as_u64()).unwrap_or(usize::MAX);
        Ok(Arc::new(Self { operator, part_size, metadata }))
    }

    /// What lies below a prefix: its path and size; directories end with a slash.
    async fn entries(&self, prefix: &str, recursive: bool) -> Result<Vec<(String, u64)>, Error> {
        let directory = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let failed = || Error::store("list", directory.clone());
        let mut lister = self.operator.lister_with(&directory).recursive(recursive).await.map_err(failed())?;
        let (mut entries, mut seen) = (Vec::new(), 0);
        while let Some(entry) = lister.try_next().await.map_err(failed())? {
            seen += 1;
            if entry.path() != directory && entry.path() != "/" {
                entries.push((entry.path().to_owned(), entry.metadata().content_length()));
            }
            if seen > NAMES {
                let reason = format!(
                    "there are more than {NAMES} names: no repository has that many, and the list may never end"
                );
                return Err(Error::Damaged { object: directory, reason });
            }
        }
        Ok(entries)
    }
}

/// What the types of buckets have in common.
struct Bucket<'a> {
    endpoint: Option<&'a str>,
    name: &'a str,
    prefix: &'a str,
    metadata: &'a Metadata,
    ca_file: Option<&'a Path>,
    part_size: ByteSize,
}

impl Bucket<'_> {
    /// Problems that no single value shows.
    fn check(&self, reader: &mut Reader<'_>) {
        reader.check_address("endpoint", self.endpoint);
        if self.part_size < ByteSize::mib(5) {
            reader.refuse("part-size", "expected at least 5MiB, the minimum that stores accept", None);
        }
    }

    /// Where it is, exactly, for a type.
    fn place(&self, kind: &str) -> String {
        format!("{kind}:{}/{}/{}", self.endpoint.unwrap_or_default(), self.name, self.prefix)
    }

    /// Where it is, as people know it.
    fn shown(&self) -> String {
        if self.prefix.is_empty() { self.name.to_owned() } else { format!("{}/{}", self.name, self.prefix) }
    }

    /// What every key begins with.
    fn root(&self) -> String {
        format!("/{}", self.prefix.trim_matches('/'))
    }
}

/// The options of a type of bucket.
trait BucketOptions: Section + StoreOptions {
    /// What `type` says.
    const TYPE: &'static str;

    /// What it has in common with the others.
    fn bucket(&self) -> Bucket<'_>;

    /// Sets its secret, where it has one of its own.
    fn resolve(&mut self, _: &mut Reader<'_>) {}

    /// The service that answers.
    fn operator(&self) -> opendal::Result<Operator>;
}

/// The store that a type of bucket is.
const fn store<T: BucketOptions>() -> Store {
    Store {
        variant: Variant {
            name: T::TYPE,
            about: T::ABOUT,
            options: T::OPTIONS,
            read: |reader: &mut Reader<'_>| {
                let mut options = T::read(reader)?;
                options.resolve(reader);
                options.bucket().check(reader);
                Some(Arc::new(options))
            },
        },
        open: |repository, _| {
            let options: &T = own(repository)?;
            let operator = options.operator().map_err(|error| error.to_string());
            Some(operator.and_then(|operator| ObjectStore::open(&repository.common, options.bucket(), operator)))
        },
    }
}

/// The HTTP client: the system's certificates, and those of `ca-file`.
fn client(timeout: Duration, ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder().connect_timeout(timeout).tls_backend_rustls();
    if let Some(file) = ca_file {
        builder = builder.tls_certs_merge(certificates(file)?);
    }
    builder.build().map_err(|error| error.to_string())
}

fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("ca-file {}: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    reqwest::Certificate::from_pem_bundle(&bytes).map_err(|error| failed(&error))
}

#[async_trait]
impl Storage for ObjectStore {
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error> {
        let mut upload = self.operator.writer_with(key).chunk(self.part_size).concurrent(CONCURRENT_PARTS);
        if !self.metadata.is_empty() {
            upload = upload.user_metadata(self.metadata.clone());
        }
        let writer = upload.await.map_err(Error::store("create", key))?;
        Ok(Box::new(Upload { writer: Some(writer), store: self.clone(), key: key.to_owned(), written: 0 }))
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let failed = || Error::store("open", key);
        // In ranges, so that a connection that breaks in the middle costs one range and not the object.
        let reader = self.operator.reader_with(key).chunk(8 << 20).concurrent(2).await.map_err(failed())?;
        let reader = reader.into_futures_async_read(..).await.map_err(failed())?;
        Ok(Box::new(OverNetwork(reader.compat())))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
        match self.operator.stat(key).await {
            Ok(metadata) => {
                let modified = metadata.last_modified().map(|at| at.into_inner().as_millisecond());
                Ok(Some(Stat { size: metadata.content_length(), modified }))
            }
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::store("inspect", key)(error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut keys = self.entries(prefix, true).await?;
        keys.retain(|(path, _)| !path.ends_with('/'));
        keys.sort();
        Ok(keys)
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let entries = self.entries(prefix, false).await?;
        let name = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let mut names: Vec<_> = entries.iter().map(|(path, _)| name(path)).collect();
        names.sort();
        Ok(names)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.operator.delete(key).await.map_err(Error::store("remove", key))
    }

    /// Uploads that were never completed have no name; a lifecycle rule of the bucket removes them
    /// (`AbortIncompleteMultipartUpload`).
    async fn delete_unfinished(&self, _: &str) -> Result<u64, Error> {
        Ok(0)
    }

    async fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}

/// An upload that becomes an object when it is finished.
struct Upload {
    writer: Option<opendal::Writer>,
    store: ObjectStore,
    key: String,
    written: u64,
}

#[async_trait]
impl ObjectWriter for Upload {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.written += data.len() as u64;
        let over = || std::io::Error::new(std::io::ErrorKind::NotConnected, "its upload has already ended");
        let gone = || Error::storage("write", &self.key)(over());
        let written = self.writer.as_mut().ok_or_else(gone)?.write(data).await;
        written.map_err(Error::store("write", &self.key))
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, Error> {
        let failed = Error::store("store", &self.key);
        if let Some(mut writer) = self.writer.take()
            && let Err(error) = writer.close().await
        {
            // An upload whose completion was asked for twice, since the first answer did not come, is gone the second time:
            // then the object itself says whether it is whole.
            let gone = error.kind() == opendal::ErrorKind::NotFound;
            let there = if gone { self.store.stat(&self.key).await?.map(|stat| stat.size) } else { None };
            if there != Some(self.written) {
                self.writer = Some(writer);
                return Err(failed(error));
            }
        }
        // C16: what the store itself says of the object.
        let stat = self.store.stat(&self.key).await?;
        let missing = || Error::Damaged { object: self.key.clone(), reason: "it is missing after its upload".into() };
        stat.map(|stat| stat.size).ok_or_else(missing)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The parts of an upload that is given up cost money until it is aborted; that takes a request.
        if let (Some(mut writer), Ok(runtime)) = (self.writer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { writer.abort().await });
        }
    }
}
