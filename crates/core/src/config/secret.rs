//! Secrets: from a file only its owner reads, a systemd credential, or the environment. C25: never shown.

use super::setting::{Known, Refusal, Setting};
use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};
use std::{os::unix::fs::MetadataExt, path::Path};

/// A password or key. Its `Debug` shows nothing.
#[derive(Clone, Debug, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The secret itself, for the moment of its use.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Reads the first line of `path`, which only its owner may be able to read.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "is open to others (mode {:04o}): a secret must be readable by its owner alone",
                metadata.mode() & 0o7777
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
        match text.lines().next().map(str::trim_end) {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
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

    fn read(value: &Value, _: &Known) -> Result<Self, Refusal> {
        match value {
            Value::String(_, text) => Ok(Self::new(text.clone())),
            Value::Num(_, number) => Ok(Self::new(number.to_u128().map_or_else(String::new, |n| n.to_string()))),
            _ => Err(Refusal::expected(Self::EXPECTS)),
        }
    }
}
