//! Incremental backups (PostgreSQL 17 and later): which backup the next one builds upon, or why it must be a full one.

use crate::{Error, inspect::Inspection};
use pgbosun_repository::{BackupInfo, ObjectKind, Repository, read_volume};

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

impl Incremental {
    /// The newest good backup that every repository has, with its manifest; or the reason why there is none.
    pub(crate) async fn parent(
        &self,
        repositories: &[Repository],
        cluster: &str,
        system_id: &str,
        before: &Inspection,
    ) -> Result<Result<Parent, String>, Error> {
        if before.version_number < 170_000 {
            return Ok(Err(format!("PostgreSQL {} has no incremental backups, 17 is the first", before.version)));
        }
        if before.settings.get("summarize_wal").is_none_or(|value| value != "on") {
            return Ok(Err("summarize_wal is off: ALTER SYSTEM SET summarize_wal = on, then reload".into()));
        }
        let Some(first) = repositories.first() else { return Ok(Err("there is no repository".into())) };
        let (mut backups, _) = first.backups(Some(cluster)).await?;
        backups.retain(|info| info.system_id == system_id);
        let Some(newest) = backups.iter().rev().find(|info| !info.checksum_failures) else {
            return Ok(Err("there is no good backup to build upon".into()));
        };
        let mut length = 0;
        let mut link = newest;
        while let Some(parent) = &link.parent {
            length += 1;
            match backups.iter().find(|info| info.label == *parent) {
                Some(parent) => link = parent,
                None => return Ok(Err(format!("{} builds upon {parent}, which is not there", link.label))),
            }
        }
        if length >= self.chain_limit {
            return Ok(Err(format!("{length} incremental ones build upon {} already (chain-limit)", link.label)));
        }
        for repository in &repositories[1..] {
            let mut link = Some(newest.label.clone());
            while let Some(label) = link {
                match repository.find(Some(cluster), &label).await {
                    Ok(info) => link = info.parent,
                    Err(pgbosun_repository::Error::NoBackup(_)) => {
                        return Ok(Err(format!("repository {} does not have {label}", repository.name)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let Some(object) = newest.object(ObjectKind::Manifest) else {
            return Ok(Err(format!("{} has no manifest", newest.label)));
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
