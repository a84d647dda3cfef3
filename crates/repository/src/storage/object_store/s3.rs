//! Buckets of S3-compatible stores.

use super::{Bucket, BucketOptions};
use bytesize::ByteSize;
use opendal::{Operator, services};
use pgbosun_core::{
    config::{Metadata, Reader, Secret, StoreOptions},
    options,
};
use std::path::{Path, PathBuf};

options! {
    /// In a bucket of an S3-compatible store.
    pub struct S3Options {
        /// The bucket. It must exist.
        bucket: String;
        /// What every key starts with. Below it, the names of backups start with their date.
        prefix: String = "\"\"";
        /// The URL of the store, `https://…`; Amazon's own by default.
        endpoint: Option<String>;
        /// The region.
        region: String = "\"us-east-1\"";
        /// The bucket is part of the path, not of the host name.
        path_style: bool = "true";
        /// The access key. Without it: the environment, the profile, or the machine's role.
        access_key: Option<String>;
        /// A file of mode 0600 with the secret that goes with it. Without it: the credential `repositories.NAME.secret`.
        secret_file: Option<PathBuf>;
        /// The secret, for the environment only.
        secret: Option<Secret>;
        /// The storage class of new objects. Classes whose objects have to be thawed first do not allow an immediate restore.
        storage_class: Option<String>;
        /// How the store encrypts, `AES256` or `aws:kms`.
        server_side_encryption: Option<String>;
        /// The key for `aws:kms`.
        kms_key: Option<String>;
        /// Metadata of every object, such as `{ owner = "dba" }`.
        metadata: Metadata;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
        /// Objects are uploaded in parts of this size, two at a time.
        part_size: ByteSize = "\"16MiB\"";
    }
}

impl BucketOptions for S3Options {
    const TYPE: &'static str = "s3";

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
        let (name, root) = (&self.bucket, self.bucket().root());
        let mut builder =
            services::S3::default().bucket(name).root(&root).region(&self.region).checksum_algorithm("crc32c");
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if !self.path_style {
            builder = builder.enable_virtual_host_style();
        }
        if let (Some(key), Some(secret)) = (&self.access_key, &self.secret) {
            builder = builder.access_key_id(key).secret_access_key(secret.current().expose()).disable_config_load();
        }
        if let Some(class) = &self.storage_class {
            builder = builder.default_storage_class(class);
        }
        if let Some(encryption) = &self.server_side_encryption {
            builder = builder.server_side_encryption(encryption);
        }
        if let Some(key) = &self.kms_key {
            builder = builder.server_side_encryption_aws_kms_key_id(key);
        }
        Operator::new(builder)
    }
}

impl StoreOptions for S3Options {
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
