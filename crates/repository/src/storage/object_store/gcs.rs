//! Buckets of Google Cloud Storage.

use super::{Bucket, BucketOptions};
use bytesize::ByteSize;
use opendal::{Operator, services};
use pgbosun_core::{
    config::{Metadata, StoreOptions},
    options,
};
use std::path::{Path, PathBuf};

options! {
    /// In a bucket of Google Cloud Storage.
    pub struct GcsOptions {
        /// The bucket. It must exist.
        bucket: String;
        /// What every key starts with. Below it, the names of backups start with their date.
        prefix: String = "\"\"";
        /// The URL of the store, `https://…`; Google's own by default.
        endpoint: Option<String>;
        /// The service account's JSON file, of mode 0600. Without it: the environment, or the machine's role.
        secret_file: Option<PathBuf>;
        /// The storage class of new objects.
        storage_class: Option<String>;
        /// Metadata of every object, such as `{ owner = "dba" }`.
        metadata: Metadata;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
        /// Objects are uploaded in parts of this size, two at a time.
        part_size: ByteSize = "\"16MiB\"";
    }
}

impl BucketOptions for GcsOptions {
    const TYPE: &'static str = "gcs";

    fn bucket(&self) -> Bucket<'_> {
        Bucket {
            endpoint: self.endpoint.as_deref(),
            name: &self.bucket,
            prefix: &self.prefix,
            metadata: &self.metadata,
            ca_file: self.ca_file.as_deref(),
            part_size: self.part_size,
        }
    }

    fn operator(&self) -> opendal::Result<Operator> {
        let mut builder = services::Gcs::default().bucket(&self.bucket).root(&self.bucket().root());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(file) = &self.secret_file {
            builder = builder.credential_path(&file.display().to_string());
        }
        if let Some(class) = &self.storage_class {
            builder = builder.default_storage_class(class);
        }
        Operator::new(builder)
    }
}

impl StoreOptions for GcsOptions {
    fn place(&self) -> String {
        self.bucket().place(Self::TYPE)
    }

    fn shown(&self) -> String {
        self.bucket().shown()
    }

    fn secret_files(&self) -> Vec<&Path> {
        self.secret_file.iter().map(PathBuf::as_path).collect()
    }
}
