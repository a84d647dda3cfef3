//! Encryption at rest with age: written for recipients, read with identities. Whoever writes needs no key.

use crate::KeyError;
use age::{Identity, IdentityFile, Recipient, x25519};
use std::{fmt, io::BufReader, os::unix::fs::MetadataExt, path::Path, sync::Arc};

/// The public keys that may read what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// Of these words, `age1…` each. They are parsed when they are first used.
    pub fn new(words: &[String]) -> Self {
        let mut words = words.to_vec();
        words.sort();
        Self(words)
    }

    /// True where nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn encryptor(&self) -> Result<age::Encryptor, KeyError> {
        let parse = |word: &String| {
            let parsed = word.parse::<x25519::Recipient>();
            parsed
                .map(|key| Box::new(key) as Box<dyn Recipient>)
                .map_err(|reason| KeyError::Recipient { word: word.clone(), reason })
        };
        let keys = self.0.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        age::Encryptor::with_recipients(keys.iter().map(AsRef::as_ref)).map_err(KeyError::Encrypt)
    }
}

/// The secret keys with which what is encrypted can be read. Shows nothing of them (C25).
#[derive(Clone, Default)]
pub struct Identities(Arc<Vec<Box<dyn Identity + Send + Sync>>>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Identities {
    /// From a file that only its owner may read, or the systemd credential of this name; none where there is neither.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub fn load(file: Option<&Path>, credential: &str) -> Result<Self, KeyError> {
        let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(credential));
        let path = match (file, given.filter(|path| path.exists())) {
            (Some(file), _) => file.to_owned(),
            (None, Some(given)) => given,
            (None, None) => return Ok(Self::default()),
        };
        let failed = |source: std::io::Error| KeyError::File { path: path.clone(), source };
        let opened = std::fs::File::open(&path).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.mode();
        if file.is_some() && mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path, mode: mode & 0o7777 });
        }
        let parsed = IdentityFile::from_buffer(BufReader::new(opened)).map_err(failed)?;
        let keys = parsed.into_identities().map_err(|source| KeyError::Identity { path, source })?;
        Ok(Self(Arc::new(keys)))
    }

    /// True where nothing encrypted can be read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Identity> {
        self.0.iter().map(|identity| &**identity as &dyn Identity)
    }
}
