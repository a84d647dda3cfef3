//! `[repositories.NAME]`: where backups and WAL are kept, and how they are stored there.

use super::super::{KnownNames, Rate, RawValue, Reader, Refusal, Retention, Setting, StoreOptions, TypeName};
use crate::options;
use bytesize::ByteSize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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
    pub struct RepositoryOptions {
        /// The type of store.
        r#type: TypeName;
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

/// A place where backups and WAL are kept, as configured.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What every repository has.
    pub common: RepositoryOptions,
    /// What its type of store has.
    pub store: Arc<dyn StoreOptions>,
}

impl RepositoryOptions {
    /// The level in force.
    pub fn level(&self) -> u8 {
        self.compression_level.unwrap_or(if self.compression == Compression::Gzip { 6 } else { 3 })
    }

    /// Problems that no single value shows.
    pub(in super::super) fn check(&self, reader: &mut Reader<'_>, directory: Option<&Path>) {
        let levels = if self.compression == Compression::Gzip { 1..=9 } else { 1..=19 };
        if !levels.contains(&self.level()) {
            let message = format!("expected a level from {} to {}", levels.start(), levels.end());
            reader.refuse("compression-level", message, None);
        }
        if self.stall_timeout.is_zero() || self.timeout.is_zero() {
            reader.refuse("stall-timeout", "this and timeout must be more than 0s", None);
        }
        if let Some(word) = self.encrypt_to.iter().find(|word| !word.starts_with("age1")) {
            let hint = "age-keygen makes a key pair; the recipient is on its \"public key\" line".to_owned();
            reader.refuse("encrypt-to", format!("\"{word}\" is not an age recipient"), Some(hint));
        }
        if let (Some(path), Some(key)) = (directory, &self.signing_key_file)
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
