//! Incremental backups (PostgreSQL 17 and later): which backup the next one builds upon, or why it must be a full one.

use crate::{Catalogue, Chain, Error, another, inspect::Inspection};
use pgbosun_core::human;
use pgbosun_repository::{BackupInfo, ObjectKind, Repository, read_volume};
use std::{collections::BTreeSet, fmt};

/// When to take an incremental backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incremental {
    /// The most incremental backups upon one full one.
    pub chain_limit: u32,
}

/// A backup to build upon.
pub(crate) struct Parent {
    pub info: BackupInfo,
    pub manifest: Vec<u8>,
}

/// Why a backup must be a full one although an incremental one was asked for.
#[derive(Debug)]
pub struct WhyFull {
    /// In words.
    pub reason: String,
    /// A backup that turned out to be none to build on, and where: it is to be verified.
    pub lost: Option<(Repository, BackupInfo)>,
}

impl From<String> for WhyFull {
    fn from(reason: String) -> Self {
        Self { reason, lost: None }
    }
}

impl From<&str> for WhyFull {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl fmt::Display for WhyFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Incremental {
    /// The newest backup, where it is good in every repository, with its manifest; or the reason why it must be a full one.
    pub(crate) async fn parent(
        &self,
        repositories: &[Repository],
        cluster: &str,
        system_id: &str,
        before: &Inspection,
    ) -> Result<Result<Parent, WhyFull>, Error> {
        if before.version_number < 170_000 {
            return Ok(Err(format!(
                "PostgreSQL {} has no incremental backups; they need version 17 or later",
                before.version
            )
            .into()));
        }
        if before.settings.get("summarize_wal").is_none_or(|value| value != "on") {
            return Ok(Err("summarize_wal is off: ALTER SYSTEM SET summarize_wal = on, then reload".into()));
        }
        let Some(first) = repositories.first() else { return Ok(Err("there is no repository".into())) };
        let catalogue = Catalogue::read(first, Some(cluster)).await?;
        let Some(newest) = catalogue.entries().iter().rev().find(|entry| entry.info.system_id == system_id) else {
            return Ok(Err("there is no backup to build on".into()));
        };
        // C27: after damage the next backup stands on its own feet, and does not reach over the damaged one for an older one.
        if !newest.health().is_good() {
            return Ok(Err(newest.health().to_string().into()));
        }
        let chain = catalogue.chain(newest);
        let (newest, length) = (&newest.info, chain.links.len() - 1);
        if length >= self.chain_limit as usize {
            let full = &chain.links[0].label;
            return Ok(Err(
                format!("already {} on {full} (chain-limit)", human::count(length, "incremental backup")).into()
            ));
        }
        if let Some(why) = unlike(first, &chain) {
            return Ok(Err(why));
        }
        if let Some(why) = lost(first, &chain).await? {
            return Ok(Err(why));
        }
        if let Some(why) = of_another(first, newest).await? {
            return Ok(Err(why));
        }
        for repository in &repositories[1..] {
            let there = Catalogue::read(repository, Some(cluster)).await?;
            match there.find(&newest.place()) {
                Some(entry) if entry.health().is_good() => {
                    let chain = there.chain(entry);
                    if let Some(why) = unlike(repository, &chain) {
                        return Ok(Err(why));
                    }
                    if let Some(why) = lost(repository, &chain).await? {
                        return Ok(Err(why));
                    }
                    if let Some(why) = of_another(repository, newest).await? {
                        return Ok(Err(why));
                    }
                }
                Some(entry) => return Ok(Err(format!("in repository {}, {}", repository.name, entry.health()).into())),
                None => {
                    return Ok(Err(format!("repository {} does not have {}", repository.name, newest.label).into()));
                }
            }
        }
        let Some(object) = newest.object(ObjectKind::Manifest) else {
            return Ok(Err(format!("{} has no manifest", newest.label).into()));
        };
        let key = newest.place().key(&object.name);
        let manifest = read_volume(first, &key, object, |reader| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(reader, &mut bytes).map_err(Error::file("read", "backup_manifest"))?;
            Ok::<_, Error>(bytes)
        });
        let manifest = manifest.await?;
        Ok(Ok(Parent { info: newest.clone(), manifest }))
    }
}

/// C27: a chain is restored as a whole, so all of it opens with the same keys: after a change of them the next backup is a full one.
fn unlike(repository: &Repository, chain: &Chain<'_>) -> Option<WhyFull> {
    let keys = |all: &[String]| all.iter().cloned().collect::<BTreeSet<_>>();
    let now = keys(&repository.options.encrypt_to);
    let other = chain.links.iter().find(|link| keys(&link.encrypted_to) != now)?;
    let reason = match now.is_empty() {
        true => format!("in repository {}, {} is encrypted, but encrypt-to is not set", repository.name, other.label),
        false => {
            format!(
                "in repository {}, {} is encrypted for other keys than those in encrypt-to",
                repository.name, other.label
            )
        }
    };
    Some(reason.into())
}

/// The first backup of a chain that lost an object since it was verified, if any (C27): a listing costs little beside what would be
/// built on it for days.
async fn lost(repository: &Repository, chain: &Chain<'_>) -> Result<Option<WhyFull>, Error> {
    for link in &chain.links {
        if let Some(words) = repository.lost_objects(link).await?.into_values().next() {
            let reason = format!("in repository {}, {} is damaged: {words}", repository.name, link.label);
            return Ok(Some(WhyFull { reason, lost: Some((repository.clone(), (*link).clone())) }));
        }
    }
    Ok(None)
}

/// C43: that the archive has another segment under the name of the backup's last one.
async fn of_another(repository: &Repository, info: &BackupInfo) -> Result<Option<WhyFull>, Error> {
    let reason = another::backup(repository, info).await?;
    let reason = reason.map(|words| format!("in repository {}, {words}", repository.name));
    Ok(reason.map(|reason| WhyFull { reason, lost: Some((repository.clone(), info.clone())) }))
}
