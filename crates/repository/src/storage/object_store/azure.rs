//! Containers of Azure Blob Storage.

use super::{Bucket, ObjectStore, Store, own};
use bytesize::ByteSize;
use opendal::{Operator, services};
use pgbosun_core::{
    config::{Metadata, Reader, Secret, Section, StoreOptions, Variant},
    options,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

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

impl AzureOptions {
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
        self.bucket().place("azure")
    }

    fn shown(&self) -> String {
        self.bucket().shown()
    }

    fn secret_files(&self) -> Vec<&Path> {
        self.secret_file.iter().map(PathBuf::as_path).collect()
    }
}

pub(in super::super) const STORE: Store = Store {
    variant: Variant {
        name: "azure",
        about: AzureOptions::ABOUT,
        options: AzureOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| {
            let mut options = AzureOptions::read(reader)?;
            let file = options.secret_file.clone();
            reader.resolve("secret-file", &mut options.secret, file.as_deref(), "secret");
            options.bucket().check(reader);
            Some(Arc::new(options))
        },
    },
    open: |repository, _| {
        let options: &AzureOptions = own(repository)?;
        let operator = options.operator().map_err(|error| error.to_string());
        Some(operator.and_then(|operator| ObjectStore::open(&repository.common, options.bucket(), operator)))
    },
};
