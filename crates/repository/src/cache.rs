//! Catalogues that were read before, for showing many of them fast.
//!
//! Never trusted over the repository: which backups there are is asked there, an entry counts only while the object it was
//! read from has the same size and time, and whatever decides (expiry, restore, verification) reads the repository.

use crate::{repository::ReadInfo, storage::Stat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

/// Entries by the key of their `backup.json`.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Cache(HashMap<String, Entry>);

#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    size: u64,
    modified: i64,
    read: ReadInfo,
}

impl Cache {
    /// What a file holds; what is not whole holds nothing.
    pub fn load(file: &Path) -> Self {
        let Ok(bytes) = fs::read(file) else { return Self::default() };
        let (checksum, text) = bytes.split_at(bytes.len().min(64));
        if hex::encode(Sha256::digest(text)).as_bytes() != checksum {
            return Self::default();
        }
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Writes it down, in place of what was there. Failing costs only time.
    pub fn store(&self, file: &Path) {
        let stored = serde_json::to_vec(self).map_err(std::io::Error::other).and_then(|text| {
            let whole = [hex::encode(Sha256::digest(&text)).into_bytes(), text].concat();
            let temporary = file.with_extension(format!("{}.new", std::process::id()));
            fs::write(&temporary, whole)?;
            fs::rename(&temporary, file)
        });
        if let Err(error) = stored {
            tracing::debug!("{} not kept: {error}", file.display());
        }
    }

    /// What was read from an object, if that still is as it was.
    pub fn get(&self, key: &str, stat: Stat) -> Option<ReadInfo> {
        let entry = self.0.get(key)?;
        (entry.size == stat.size && Some(entry.modified) == stat.modified && entry.read.info.validate().is_ok())
            .then(|| entry.read.clone())
    }

    /// Forgets everything but these keys.
    pub fn retain(&mut self, keys: &HashSet<String>) {
        self.0.retain(|key, _| keys.contains(key));
    }

    /// Keeps what was read; where the place has no times, nothing.
    pub fn put(&mut self, key: String, stat: Stat, read: &ReadInfo) {
        if let Some(modified) = stat.modified {
            self.0.insert(key, Entry { size: stat.size, modified, read: read.clone() });
        }
    }
}
