//! Signing what is there already (C42): backups and WAL from before signing was set up, or signed by a key that is trusted no more.
//!
//! Nothing is signed that was not read and found whole; and only a person asks for it, since what is signed is believed from then on.

use crate::{Catalogue, Error, Progress, reading::reading_wal, wal};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Repository, WalArchive, WalObject, is_encrypted};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// The backups of a repository that nobody trusted has signed, oldest first: all, or the one with this label and what it builds on.
///
/// # Errors
/// [`Error::Refused`] where signatures are not checked there, and nothing is known to lack one; what the repository answered.
pub async fn unsigned_backups(repository: &Repository, label: Option<&str>) -> Result<Vec<BackupInfo>, Error> {
    if repository.trusted_keys()?.is_empty() {
        return Err(Error::Refused(format!(
            "repository {} has no trusted-keys: first add the public keys of all hosts that write there",
            repository.name
        )));
    }
    repository.check_signing()?;
    let (_, refused) = repository.backups(None).await?;
    let untrusted: BTreeSet<String> = refused
        .into_iter()
        .filter_map(|error| match error {
            RepositoryError::Untrusted { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    let everything = Catalogue::read(&repository.unchecked(), None).await?;
    let chosen: Vec<&BackupInfo> = match label {
        None => everything.infos().collect(),
        Some(label) => {
            let named = everything.entries().iter().filter(|entry| entry.info.label == label);
            named.flat_map(|entry| everything.chain(entry).links).collect()
        }
    };
    let lacks = |info: &&BackupInfo| untrusted.contains(&info.place().key("backup.json"));
    Ok(chosen.into_iter().filter(lacks).cloned().collect())
}

/// What came of signing WAL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedWal {
    /// Files signed.
    pub signed: u64,
    /// Files that stay unsigned, and why.
    pub refused: Vec<String>,
}

/// Reads and signs the files of a WAL archive that nobody trusted has signed.
///
/// # Errors
/// What the repository answered, or [`Error::Cancelled`]; what was signed stays so.
pub async fn sign_wal(
    repository: &Repository,
    cluster: &str,
    system_id: &str,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<SignedWal, Error> {
    let archive = WalArchive::new(repository, cluster, system_id);
    let work = async {
        let contents = archive.contents().await?;
        let total = contents.untrusted.iter().map(|object| object.size).sum();
        progress.step(format!("signing the WAL archive in {}", repository.name), total);
        let mut done = SignedWal::default();
        for object in &contents.untrusted {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let others = contents.believed.iter().chain(&contents.untrusted);
            let fault = match others.clone().any(|other| other.file == object.file && other.sha256 != object.sha256) {
                true => Some("it is there with different contents: remove the wrong one by hand".to_owned()),
                false => fault(&archive, object, system_id).await?,
            };
            match fault {
                Some(fault) => done.refused.push(format!("{}: {fault}", object.key)),
                None => {
                    archive.sign(object).await?;
                    done.signed += 1;
                }
            }
            progress.add(object.size);
        }
        Ok(done)
    };
    reading_wal(repository, (cluster, system_id), "signing", Box::pin(work)).await
}

/// Why a backup cannot be read here, where it cannot: it is not signed then.
///
/// # Errors
/// Where the key is configured and cannot be used.
pub fn unreadable_backup(repository: &Repository, info: &BackupInfo) -> Result<Option<String>, Error> {
    let encrypted = info.objects.iter().find(|object| is_encrypted(&object.name));
    encrypted.map_or(Ok(None), |object| unreadable(repository, &object.name))
}

fn unreadable(repository: &Repository, name: &str) -> Result<Option<String>, Error> {
    let keyless = is_encrypted(name) && repository.identities()?.is_empty();
    let reason =
        "it is encrypted, and cannot be read without a key: set identity-file, or sign on a host that has the key";
    Ok(keyless.then(|| reason.to_owned()))
}

/// What is wrong with a file. One that cannot be read is not signed: whoever can read it signs it.
async fn fault(archive: &WalArchive, object: &WalObject, system_id: &str) -> Result<Option<String>, Error> {
    if let Some(reason) = unreadable(archive.repository(), &object.key)? {
        return Ok(Some(reason));
    }
    match archive.get(object).await {
        Ok(bytes) => Ok(wal::check_segment(&object.file, &bytes, bytes.len() as u64, system_id).err()),
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Key(_))) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
