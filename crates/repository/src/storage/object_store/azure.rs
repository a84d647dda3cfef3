//! Containers of Azure Blob Storage.

use super::{Bucket, BucketOptions};
use bytesize::ByteSize;
use opendal::{Operator, services};
use pgbosun_core::{
    config::{Metadata, Reader, Secret, StoreOptions},
    options,
};
use std::path::{Path, PathBuf};

options! {
    /// In a container of Azure Blob Storage.
    pub struct AzureOptions {
        /// The container. It must exist.
        bucket: String;
        /// What every key starts with. Below it, the names of backups start with their date.
        prefix: String = "\"\"";
        /// The URL of the store, `https://…`; by default the account's own at `blob.core.windows.net`.
        endpoint: Option<String>;
        /// The account.
        access_key: String;
        /// A file of mode 0600 with the account's key. Without it: the credential `repositories.NAME.secret`.
        secret_file: Option<PathBuf>;
        /// The account's key, for the environment only.
        secret: Option<Secret>;
        /// Metadata of every object, such as `{ owner = "dba" }`.
        metadata: Metadata;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
        /// Objects are uploaded in parts of this size, two at a time.
        part_size: ByteSize = "\"16MiB\"";
    }
}

impl BucketOptions for AzureOptions {
    const TYPE: &'static str = "azure";

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

    fn resolve(&mut self, reader: &mut Reader<'_>) {
        reader.resolve("secret-file", &mut self.secret, self.secret_file.as_deref(), "secret");
    }

    fn operator(&self) -> opendal::Result<Operator> {
        let account = &self.access_key;
        let public = format!("https://{account}.blob.core.windows.net");
        let mut builder = services::Azblob::default()
            .container(&self.bucket)
            .root(&self.bucket().root())
            .endpoint(self.endpoint.as_deref().unwrap_or(&public))
            .account_name(account);
        if let Some(secret) = &self.secret {
            builder = builder.account_key(secret.current().expose());
        }
        Operator::new(builder)
    }
}

impl StoreOptions for AzureOptions {
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
