//! Removal of one backup by hand, such as that of another server (C43). Retention is not asked; what others need stays.

use crate::{Catalogue, Error};
use pgbosun_repository::{BackupInfo, Reader, Repository};
use uuid::Uuid;

/// Why a backup cannot be removed, or whether it is the last good one of its server in the repository.
///
/// # Errors
/// [`Error::Refused`] where others build upon it (C11), or somebody keeps it.
pub fn check_removal(catalogue: &Catalogue, info: &BackupInfo) -> Result<bool, Error> {
    let label = &info.label;
    let dependents: Vec<_> = catalogue.dependents(info).map(|entry| entry.info.label.as_str()).collect();
    if !dependents.is_empty() {
        return Err(Error::Refused(format!(
            "{label} is needed by {}: remove what builds on it first",
            dependents.join(", ")
        )));
    }
    let kept = catalogue.find(&info.place()).and_then(|entry| entry.notes.keep.as_ref());
    if let Some(keep) = kept {
        return Err(Error::Refused(format!(
            "{label} is kept by {} ({}): \"pgbosun backup unkeep {label}\" releases it",
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
        // One that has ended reads WAL alone, which stays.
        let reads = |reader: &&Reader| reader.label == info.label && reader.held_until.is_none();
        if let Some(reader) = readers.iter().find(reads) {
            return Err(Error::Refused(format!(
                "{} has been reading {} since {}",
                reader.work, info.label, reader.began_at
            )));
        }
        Ok(repository.remove(&info.place()).await?)
    };
    let done = removed.await;
    expiry.end().await?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Lineages, tests::backup};
    use pgbosun_repository::{Keep, Notes};

    #[test]
    fn c11_what_others_need_or_somebody_keeps_is_not_removed_by_hand_either() {
        let (full, middle, other) = (backup("a", 1, None), backup("b", 2, Some("a")), backup("c", 3, None));
        let kept = Keep { by: "dba".into(), at: full.started_at, reason: "year end".into() };
        let removable = |backups: &[(&BackupInfo, Notes)], which: &BackupInfo| {
            let backups = backups.iter().map(|(info, notes)| ((*info).clone(), notes.clone())).collect();
            let catalogue = Catalogue::of(backups, &Lineages::new(), Vec::new());
            check_removal(&catalogue, which).map_err(|error| error.to_string())
        };
        let (none, damaged) = (Notes::default(), Notes { verified: Some(false), ..Notes::default() });
        let chain = [(&full, none.clone()), (&middle, none.clone())];
        assert_eq!(removable(&chain, &full), Err("a is needed by b: remove what builds on it first".into()));
        assert_eq!(removable(&chain, &middle), Ok(false), "the full one is left");
        assert_eq!(removable(&[(&other, none.clone())], &other), Ok(true));
        assert_eq!(removable(&[(&full, damaged), (&other, none)], &other), Ok(true), "what is left is damaged");
        let notes = Notes { keep: Some(kept), ..Notes::default() };
        assert!(removable(&[(&full, notes)], &full).unwrap_err().contains("is kept by dba (year end)"));
    }
}
