//! Secrets: from a file only its owner reads, a systemd credential, or the environment. C25: never shown.
//!
//! Invariant: who is about to use one asks for [`Secret::current`], so that a file that was changed counts from the next try on. What
//! came from the environment or a systemd credential stays as it was at the start: neither changes while a process lives.

use super::setting::{KnownNames, Refusal, Setting};
use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The largest file that may hold one.
const LONGEST: u64 = 64 << 10;

/// A password or key. Its `Debug` shows nothing of it.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    text: SecretString,
    /// Where it was read, and is read again.
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: SecretString::from(text.into()), file: None }
    }

    /// The secret itself, for the moment of its use.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// As its file has it now. Where that cannot be used, the one that was read last holds: somebody is changing it.
    #[must_use]
    pub fn current(&self) -> Self {
        let Some(file) = &self.file else { return self.clone() };
        Self::from_file(file).unwrap_or_else(|reason| {
            tracing::warn!("{} {reason}; the secret that was read before stays in use", file.display());
            self.clone()
        })
    }

    /// The secret of a file that was not read.
    pub(super) fn unread(path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..Self::new("") }
    }

    /// Reads the first line of `path`, which only its owner may be able to read.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "is open to others (mode {:04o}): a secret must be readable only by its owner",
                metadata.mode() & 0o7777
            ));
        }
        // A FIFO would be waited for.
        if !metadata.is_file() || metadata.len() > LONGEST {
            return Err(format!("is not a regular file of at most {LONGEST} bytes"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
        match text.lines().next().map(str::trim_end) {
            Some(line) if !line.is_empty() => Ok(Self { file: Some(path.to_owned()), ..Self::new(line) }),
            _ => Err("is empty: the secret is expected on its first line".into()),
        }
    }

    /// The systemd credential of this name, where the unit was given one (systemd.exec(5), LoadCredential=).
    pub(super) fn from_credential(name: &str) -> Option<Self> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        let text = std::fs::read_to_string(Path::new(&directory).join(name)).ok()?;
        text.lines().next().map(|line| Self::new(line.trim_end()))
    }
}

impl Setting for Secret {
    const EXPECTS: &'static str = "a secret";
    const SECRET: bool = true;
    const TEXT: bool = true;

    fn read(value: &Value, _: &KnownNames) -> Result<Self, Refusal> {
        match value {
            Value::String(_, text) => Ok(Self::new(text.clone())),
            _ => Err(Refusal::expected(Self::EXPECTS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    #[test]
    fn a_file_that_was_changed_counts_and_one_that_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let write = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        };
        write("old\n", 0o600);
        let secret = Secret::from_file(&file).unwrap();
        write("new\n", 0o600);
        assert_eq!((secret.expose(), secret.current().expose()), ("old", "new"));
        for (text, mode) in [("", 0o600), ("open", 0o644)] {
            write(text, mode);
            assert_eq!(secret.current().expose(), "old");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(secret.current().expose(), "old");
        assert!(!format!("{secret:?}").contains("old"));
    }
}
