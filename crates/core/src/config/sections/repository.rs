//! `[repositories.NAME]`: where backups and WAL are kept, and how they are stored there.

use super::super::{KnownNames, Rate, RawValue, Reader, Refusal, Retention, Secret, Setting};
use crate::options;
use bytesize::ByteSize;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

crate::words! {
    /// Where a repository lies.
    pub enum RepositoryType {
        /// In a directory of this machine or a mounted share.
        Local = "local",
        /// In a bucket of an S3-compatible store.
        S3 = "s3",
        /// In a directory of another machine, over SFTP.
        Sftp = "sftp",
        /// In a bucket of Google Cloud Storage.
        Gcs = "gcs",
        /// In a container of Azure Blob Storage.
        Azure = "azure",
    }
}

crate::words! {
    /// How objects are compressed.
    pub enum Compression {
        /// Zstandard.
        Zstd = "zstd",
        /// gzip.
        Gzip = "gzip",
        /// LZ4 frames.
        Lz4 = "lz4",
        /// Not at all.
        None = "none",
    }
}

crate::word_settings! {
    RepositoryType: "a kind of repository: \"local\", \"s3\", \"sftp\", \"gcs\" or \"azure\"";
    Compression: "\"zstd\", \"gzip\", \"lz4\" or \"none\"";
}

impl Compression {
    /// What a name says, by how it ends.
    pub fn of(name: &str) -> Self {
        let known = [Self::Zstd, Self::Gzip, Self::Lz4];
        known.into_iter().find(|known| name.ends_with(known.suffix())).unwrap_or(Self::None)
    }

    /// How the names of objects end.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Lz4 => ".lz4",
            Self::None => "",
        }
    }
}

/// Keys and values that are stored with every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub BTreeMap<String, String>);

impl Setting for Metadata {
    const EXPECTS: &'static str = "a table of strings such as { owner = \"dba\" }";
    const OPTIONAL: bool = true;

    fn read(value: &RawValue, _: &KnownNames) -> Result<Self, Refusal> {
        let pairs = value.as_dict().ok_or_else(|| Refusal::expected(Self::EXPECTS))?.iter();
        let read = pairs.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        read.collect::<Option<_>>().map(Self).ok_or_else(|| Refusal::expected(Self::EXPECTS))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

options! {
    /// A place where backups and WAL are kept.
    pub struct Repository {
        /// The kind of storage.
        r#type: RepositoryType;
        /// `local`, `sftp`: the directory. It is created with mode 0700 if it is missing.
        path: Option<PathBuf>;
        /// `s3`, `gcs`: the bucket; `azure`: the container. It must exist.
        bucket: Option<String>;
        /// `s3`, `gcs`, `azure`: what every key starts with. Below it, the names of backups start with their date.
        prefix: String = "\"\"";
        /// `s3`, `gcs`, `azure`: the URL of the store, `https://…`; the provider's own by default.
        endpoint: Option<String>;
        /// `s3`: the region.
        region: String = "\"us-east-1\"";
        /// `s3`: the bucket is part of the path, not of the host name.
        path_style: bool = "true";
        /// `s3`: the access key; `azure`: the account. Without it: the environment, the profile, or the machine's role.
        access_key: Option<String>;
        /// `s3`, `azure`: a file of mode 0600 with the secret that goes with it; `gcs`: the service account's JSON file.
        /// Without it: the credential `repositories.NAME.secret`.
        secret_file: Option<PathBuf>;
        /// `s3`, `azure`: the secret, for the environment only.
        secret: Option<Secret>;
        /// `s3`, `gcs`: the storage class of new objects. Classes whose objects have to be thawed first do not allow an
        /// immediate restore.
        storage_class: Option<String>;
        /// `s3`: how the store encrypts, `AES256` or `aws:kms`.
        server_side_encryption: Option<String>;
        /// `s3`: the key for `aws:kms`.
        kms_key: Option<String>;
        /// `s3`, `gcs`, `azure`: metadata of every object, such as `{ owner = "dba" }`.
        metadata: Metadata;
        /// `s3`, `gcs`, `azure`: a file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
        /// `s3`, `gcs`, `azure`: objects are uploaded in parts of this size, two at a time.
        part_size: ByteSize = "\"16MiB\"";
        /// `sftp`: the machine. Only the account may have write access to `path` there (`chmod go-w`, or `chmod +t`), since
        /// SFTP cannot keep others from replacing a directory with a link while it is in use. `check` reports where others can.
        host: Option<String>;
        /// `sftp`: its port.
        port: u16 = "22";
        /// `sftp`: the account there; by default the name of the user that pgbosun runs as.
        user: Option<String>;
        /// `sftp`: the private key.
        key_file: Option<PathBuf>;
        /// `sftp`: the file with the machine's host key. A machine whose key is unknown is refused.
        known_hosts_file: Option<PathBuf>;
        /// `local`: make directories durable too. Set it to `false` for mounts that cannot do this, such as CIFS.
        sync_directories: bool = "true";
        /// How objects are compressed.
        compression: Compression = "\"zstd\"";
        /// The level: zstd 1 (fast) to 19 (small), 3 by default; gzip 1 to 9, 6 by default.
        compression_level: Option<u8>;
        /// Threads that compress one stream: a backup over the replication connection, or a WAL segment.
        compression_threads: u8 = "2";
        /// Volumes are cut at the first file boundary past this size of uncompressed data.
        volume_size: ByteSize = "\"1GiB\"";
        /// Encrypt to these recipients (age, `age1…`): whoever holds one of their keys can read the data. The machine that
        /// writes needs none of the keys.
        encrypt_to: Vec<String> = "[]";
        /// A file of mode 0600 with age identities, for reading encrypted data. Without it: the credential
        /// `repositories.NAME.identity`.
        identity_file: Option<PathBuf>;
        /// Sign what is written with this key, a file of mode 0600: an OpenSSH Ed25519 key without a passphrase, as made by
        /// `ssh-keygen -t ed25519 -N ''`. Without it: the credential `repositories.NAME.signing-key`. See
        /// [signatures](signatures.md).
        signing_key_file: Option<PathBuf>;
        /// Trust nothing that is not signed with one of these keys: public key lines, `ssh-ed25519 AAAA… comment`, as in the
        /// `.pub` files. If the list is empty, no signature is checked.
        trusted_keys: Vec<String> = "[]";
        /// Whether a backup or a push fails when this repository does. A repository that is not required is caught up later
        /// from another one.
        required: bool = "true";
        /// How long this repository may hold up a backup that goes to several. After that the backup leaves it out.
        stall_timeout: Duration = "\"5m\"";
        /// How long one request may go without any progress.
        timeout: Duration = "\"60s\"";
        /// How often a request that failed for a temporary reason is repeated.
        request_retries: u8 = "4";
        /// How long backups and WAL are kept here, overriding what the jobs say.
        retention: Option<Retention>;
        /// The most that is written to it per second; no limit by default.
        rate_limit: Option<Rate>;
    }
}

impl Repository {
    /// The level in force.
    pub fn level(&self) -> u8 {
        self.compression_level.unwrap_or(if self.compression == Compression::Gzip { 6 } else { 3 })
    }

    /// Problems that no single value shows.
    pub(in super::super) fn check(&self, reader: &mut Reader<'_>) {
        let levels = if self.compression == Compression::Gzip { 1..=9 } else { 1..=19 };
        if !levels.contains(&self.level()) {
            let message = format!("expected a level from {} to {}", levels.start(), levels.end());
            reader.refuse("compression-level", message, None);
        }
        let needed: &[(&str, bool)] = match self.r#type {
            RepositoryType::Local => &[("path", self.path.is_none())],
            RepositoryType::Sftp => &[("path", self.path.is_none()), ("host", self.host.is_none())],
            RepositoryType::S3 | RepositoryType::Gcs => &[("bucket", self.bucket.is_none())],
            RepositoryType::Azure => &[("bucket", self.bucket.is_none()), ("access-key", self.access_key.is_none())],
        };
        for (key, _) in needed.iter().filter(|(_, missing)| *missing) {
            reader.refuse(key, format!("is missing: a repository of type {} needs it", self.r#type), None);
        }
        reader.check_address("endpoint", self.endpoint.as_deref());
        if self.part_size < ByteSize::mib(5) {
            reader.refuse("part-size", "expected at least 5MiB, the minimum that stores accept", None);
        }
        if self.stall_timeout.is_zero() || self.timeout.is_zero() {
            reader.refuse("stall-timeout", "this and timeout must be more than 0s", None);
        }
        if let Some(word) = self.encrypt_to.iter().find(|word| !word.starts_with("age1")) {
            let hint = "age-keygen makes a key pair; the recipient is on its \"public key\" line".to_owned();
            reader.refuse("encrypt-to", format!("\"{word}\" is not an age recipient"), Some(hint));
        }
        if let (Some(path), Some(key)) = (&self.path, &self.signing_key_file)
            && self.r#type == RepositoryType::Local
            && key.starts_with(path)
        {
            let hint = "keep it where nobody who can write to the repository can read it".to_owned();
            reader.refuse("signing-key-file", "is in the repository itself", Some(hint));
        }
        if let Some(line) = self.trusted_keys.iter().find(|line| !line.starts_with("ssh-ed25519 AAAA")) {
            let hint = "ssh-keygen -t ed25519 makes a key pair; the line in the .pub file is the public key".to_owned();
            reader.refuse("trusted-keys", format!("\"{line}\" is not a public key of type ssh-ed25519"), Some(hint));
        }
    }
}
