//! Where segments wait for a repository that is away, each repository in a directory of its own with the layout it will
//! have there. Bounded: past the limit a segment is left out, which is written down and never silent.

use crate::Error;
use chrono::{DateTime, Utc};
use pgbosun_core::{human, wal::WalFile};
use pgbosun_repository::{
    EncodedWal, Error as RepositoryError, Repository, Storage, WalArchive, read_object,
    storage::{Directories, Local},
    write_object,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Segments that wait for one repository.
#[derive(Clone, Debug)]
pub struct Spool {
    directory: PathBuf,
    limit: u64,
    repository: Repository,
}

/// A segment a repository will never have from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    /// The repository that lacks it.
    pub repository: String,
    /// The cluster.
    pub cluster: String,
    /// The file.
    pub file: String,
    /// When it was left out.
    pub at: DateTime<Utc>,
}

const GAPS: &str = "gaps.jsonl";

impl Spool {
    /// The spool for a repository below a directory.
    pub fn new(directory: &Path, limit: u64, repository: &Repository) -> Self {
        Self { directory: directory.join(&repository.name), limit, repository: repository.clone() }
    }

    /// The spool as a place to fetch from: what waits in it was acknowledged. It lies on this machine, where nobody else writes: what
    /// is in it is signed on its way (C42), so that a key that is missing keeps nothing from waiting.
    pub fn repository(&self) -> Repository {
        Repository::on(&self.repository.name, &self.repository.options, self.storage()).unsigned()
    }

    fn storage(&self) -> Arc<Local> {
        Arc::new(Local::new(&self.directory, Directories::Synced))
    }

    /// Files waiting, oldest name first, with their sizes.
    ///
    /// # Errors
    /// Where the spool cannot be read.
    pub async fn waiting(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut waiting = self.storage().list("").await?;
        waiting.retain(|(key, _)| key.contains("/wal/"));
        Ok(waiting)
    }

    /// Keeps a file for later, durably (C1), or writes down that it is left out, and says why.
    ///
    /// C35: a spool that takes nothing, for its limit, a full disk or any other reason, costs the other repositories nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`]: it is never put off, whether with what is in the repository or with what waits for it (C2).
    pub async fn keep(
        &self,
        cluster: &str,
        system_id: &str,
        file: &WalFile,
        encoded: &EncodedWal,
    ) -> Result<Option<String>, Error> {
        let kept = async {
            let used: u64 = self.waiting().await?.iter().map(|(_, size)| size).sum();
            if used + encoded.size() > self.limit {
                return Ok(Some("the spool is full (spool-limit)".to_owned()));
            }
            WalArchive::new(&self.repository(), cluster, system_id).put(file, encoded).await?;
            Ok::<_, Error>(None)
        };
        let reason = match kept.await {
            Ok(None) => return Ok(None),
            Ok(Some(reason)) => reason,
            Err(error @ Error::Repository(RepositoryError::Conflict { .. })) => return Err(error),
            Err(error) => format!("the spool did not accept it: {}", human::chain(&error)),
        };
        let repository = &self.repository.name;
        tracing::error!(repository, file = %file, "this file will be missing from the repository: {reason}");
        if let Err(error) = self.record_gap(cluster, file) {
            tracing::error!(repository, file = %file, "the missing file could not be recorded: {}", human::chain(&error));
        }
        Ok(Some(reason))
    }

    fn record_gap(&self, cluster: &str, file: &WalFile) -> Result<(), Error> {
        let gap = Gap {
            repository: self.repository.name.clone(),
            cluster: cluster.to_owned(),
            file: file.to_string(),
            at: pgbosun_core::clock::now(),
        };
        let path = self.directory.join(GAPS);
        let line = serde_json::to_string(&gap).unwrap_or_default() + "\n";
        let written = std::fs::create_dir_all(&self.directory).and_then(|()| {
            let mut file = std::fs::File::options().append(true).create(true).open(&path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        });
        written.map_err(Error::file("write", path))
    }

    /// The files that were left out.
    ///
    /// # Errors
    /// Where the record cannot be read.
    pub fn gaps(&self) -> Result<Vec<Gap>, Error> {
        let path = self.directory.join(GAPS);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Brings up to `most` waiting files to their repository; returns how many.
    ///
    /// # Errors
    /// Where the repository is still away, or takes nothing of the servers whose files wait (C10); what was brought stays brought.
    pub async fn drain(&self, most: usize) -> Result<usize, Error> {
        let here = self.storage();
        let mut brought = 0;
        let (mut admitted, mut refused) = (BTreeMap::new(), None);
        for (key, _) in self.waiting().await? {
            if brought == most {
                break;
            }
            let mut parts = key.split('/').map(str::to_owned);
            let (Some(cluster), Some(system_id)) = (parts.next(), parts.next()) else { continue };
            let system = (cluster, system_id);
            if !admitted.contains_key(&system) {
                // C10: it was away when the file was put here, and may hold another server's by now.
                self.repository.check_signing()?;
                let is_ours = match self.repository.admit(&system.0, &system.1).await {
                    Err(error @ RepositoryError::OtherSystem { .. }) => {
                        refused = Some(error);
                        false
                    }
                    admitted => admitted.map(|()| true)?,
                };
                admitted.insert(system.clone(), is_ours);
            }
            // What waits for a person's word keeps no other server's files waiting.
            if admitted.get(&system) == Some(&false) {
                continue;
            }
            let waiting = key;
            let key = WalArchive::signed_key(&self.repository, &waiting)?;
            // The name holds the hash of the contents: an object of this name is this file.
            match self.repository.storage.stat(&key).await? {
                Some(_) => self.repository.storage.settle(&key).await?,
                None => {
                    let bytes = read_object(here.as_ref(), &waiting).await?;
                    write_object(self.repository.storage.as_ref(), &key, bytes).await?;
                }
            }
            here.delete(&waiting).await?;
            brought += 1;
        }
        refused.filter(|_| brought == 0).map_or(Ok(brought), |error| Err(error.into()))
    }
}
