//! What this installation remembers of a repository: so that the mount point of a share that is away, or another share in
//! its place, is not taken for the repository, and nothing is stored where nobody looks for it.
//!
//! It is a help, never a need: without it (another user, a new machine) the repository is what it says it is.

use crate::Error;
use pgbosun_core::{
    config::{self, Config},
    unit,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use uuid::Uuid;

/// Where it is remembered.
#[derive(Clone, Debug)]
pub(crate) struct SeenIdentities {
    file: PathBuf,
    place: String,
    local: bool,
    /// The other configured ones.
    others: Vec<(String, SeenIdentities)>,
}

#[derive(Deserialize, Serialize)]
struct SeenIdentity {
    id: Uuid,
    /// A name may be given to another place, which is then another repository.
    place: String,
}

impl SeenIdentities {
    pub fn of(config: &Config, name: &str, options: &config::Repository) -> Self {
        let alone = |name: &str, options: &config::Repository| Self {
            file: config.daemon.state_directory.join("repositories").join(format!("{name}.json")),
            place: options.store.place(),
            local: options.store.directory().is_some(),
            others: Vec::new(),
        };
        let others = config.repositories.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(other, options)| (other.clone(), alone(other, options))).collect();
        Self { others, ..alone(name, options) }
    }

    /// Which other name stands for the very same place: of several the one to use is remembered, and the first of those. A copy of a
    /// repository elsewhere has its identity as well, and is another one.
    fn twin(&self, repository: &str, id: Uuid) -> Option<&str> {
        let is_known = self.known() == Some(id);
        let first = self.others.iter().filter(|(other, _)| !is_known || other.as_str() < repository);
        let mut twins = first.filter(|(_, other)| other.known() == Some(id));
        let inode = |memory: &Self| fs::metadata(&memory.place).map(|found| (found.dev(), found.ino())).ok();
        let same = |other: &Self| match self.local && other.local {
            true => inode(self).is_some() && inode(self) == inode(other),
            false => self.place == other.place,
        };
        twins.find(|(_, other)| same(other)).map(|(name, _)| name.as_str())
    }

    fn known(&self) -> Option<Uuid> {
        let known: SeenIdentity = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        (known.place == self.place).then_some(known.id)
    }

    /// Where catalogues that were read are kept.
    pub fn cache(&self) -> PathBuf {
        self.file.with_extension("catalogue")
    }

    /// Compares what is there with what is remembered, and remembers what is new.
    pub fn check(&self, repository: &str, found: Option<Uuid>) -> Result<(), Error> {
        if let Some(held) = self.local.then(|| unit::holds(Path::new(&self.place))).flatten() {
            let (repository, place) = (repository.to_owned(), self.place.clone());
            return Err(Error::Held { repository, place, reason: held });
        }
        // One would expire what the other keeps, and one backup would count as two.
        if let Some(twin) = found.and_then(|id| self.twin(repository, id)) {
            let reason = format!(
                "it is the same place as repository {twin}: give it a place of its own, or use one name for both"
            );
            return Err(Error::Configuration { repository: repository.to_owned(), reason });
        }
        let (id, before) = match (self.known(), found) {
            (None, None) => return Ok(()),
            (Some(before), Some(id)) if before == id => return Ok(()),
            (None, Some(id)) => (id, None),
            (Some(before), found) => (found.unwrap_or(before), Some(found.is_some())),
        };
        let reason = match before {
            // Elsewhere than in a directory two that make it at the same moment overwrite each other: the last one counts.
            Some(true) if !self.local && self.is_new() => {
                self.remember(found.unwrap_or(id));
                return Ok(());
            }
            None => {
                self.remember(id);
                return Ok(());
            }
            Some(false) => "it no longer has a pgbosun.json",
            Some(true) => "it is a different repository than before",
        };
        Err(Error::NotThere {
            repository: repository.to_owned(),
            place: self.place.clone(),
            reason,
            memory: self.file.display().to_string(),
        })
    }

    /// It was made within the last hour.
    fn is_new(&self) -> bool {
        let modified = fs::metadata(&self.file).and_then(|metadata| metadata.modified());
        modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age < Duration::from_secs(3600))
    }

    fn remember(&self, id: Uuid) {
        let known = SeenIdentity { id, place: self.place.clone() };
        let written = self.file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let text = serde_json::to_string(&known).map_err(std::io::Error::other)?;
            // Half a file is none, and is written again.
            fs::write(&self.file, text)
        });
        if let Err(error) = written {
            tracing::debug!("{} not remembered: {error}", self.file.display());
        }
    }
}
