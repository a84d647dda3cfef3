//! Removal of one backup by hand, such as that of another server (C43). Retention is not asked; what others need stays.

use crate::{Catalogue, Error};
use pgbosun_repository::{BackupInfo, Repository};
use uuid::Uuid;

/// Why a backup cannot be removed, or whether it is the last good one of its server in the repository.
///
/// # Errors
/// [`Error::Refused`] where others build upon it (C11), or somebody keeps it.
pub fn check_removal(catalogue: &Catalogue, info: &BackupInfo) -> Result<bool, Error> {
    let label = &info.label;
    let dependents: Vec<_> = catalogue.dependents(info).map(|entry| entry.info.label.as_str()).collect();
    if !dependents.is_empty() {
        return Err(Error::Refused(format!("{} builds upon {label}: remove that first", dependents.join(", "))));
    }
    let kept = catalogue.find(&info.place()).and_then(|entry| entry.notes.keep.as_ref());
    if let Some(keep) = kept {
        return Err(Error::Refused(format!(
            "{label} is kept by {} ({}): \"pgbosun backup unkeep {label}\" gives it back",
            keep.by, keep.reason
        )));
    }
    let of_server = catalogue.entries().iter().filter(|entry| entry.info.system_id == info.system_id);
    let mut others = of_server.filter(|entry| entry.info.label != *label && entry.health().is_good());
    Ok(others.next().is_none())
}

/// Removes a backup from a repository. WAL that it alone needed goes with the next expiry.
///
/// # Errors
/// Those of [`check_removal`]; where somebody is at work in the repository (C9) or reads the backup (C32); what it answered.
pub async fn remove_backup(repository: &Repository, info: &BackupInfo, instance: Uuid) -> Result<(), Error> {
    let (cluster, system_id) = (&info.cluster, &info.system_id);
    let expiry = repository.begin_expiry(cluster, system_id, instance).await?;
    let removed = async {
        check_removal(&Catalogue::read(repository, Some(cluster)).await?, info)?;
        let readers = repository.readers(cluster, system_id, true).await?;
        if let Some(reader) = readers.iter().find(|reader| reader.label == info.label) {
            return Err(Error::Refused(format!("{} reads {} since {}", reader.work, info.label, reader.began_at)));
        }
        Ok(repository.remove(&info.place()).await?)
    };
    let done = removed.await;
    expiry.end().await?;
    done
}
