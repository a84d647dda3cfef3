//! `pgbosun backup remove`: one backup, whatever retention says of it.

use super::{label, manage::identity};
use crate::{
    exit::Exit,
    local::Context,
    output::{ago, confirm, green, json, red},
};
use pgbosun_backup::{Catalogue, check_removal, remove_backup};
use pgbosun_core::{
    human,
    outcome::{BackupState, BackupStateRecord},
};
use pgbosun_repository::Error as RepositoryError;

/// Removes a backup from every repository, or the one that is named.
///
/// # Errors
/// Where there is no such backup, others need it, or somebody is at work in a repository.
pub async fn run(context: &Context, beginning: &str, repository: Option<&str>, force: bool) -> anyhow::Result<u8> {
    let (mut found, mut away) = (Vec::new(), None);
    let repositories = context.repositories(repository)?;
    let label = &label(&repositories, beginning).await?;
    for repository in repositories {
        let asked = async {
            // The mount point of a share that is away looks like an empty repository.
            repository.identity().await?;
            repository.find(None, label).await
        };
        match asked.await {
            Ok(info) => found.push((repository, info)),
            Err(RepositoryError::NoBackup(_)) => {}
            Err(error) => {
                tell!("{} {}: {}", red("not checked:"), repository.name, human::chain(&error));
                away = Some(format!("{label} may still be in {}, which could not be checked", repository.name));
            }
        }
    }
    if found.is_empty() && away.is_none() {
        return Err(RepositoryError::NoBackup(label.to_owned()).into());
    }
    let mut last_ones = Vec::new();
    for (repository, info) in &found {
        let catalogue = Catalogue::read(repository, Some(&info.cluster)).await?;
        let is_last = check_removal(&catalogue, info)?;
        let last = if is_last { ", where it is the last good backup" } else { "" };
        last_ones.push(is_last);
        let (age, size) = (ago(info.finished_at), human::size(info.stored_bytes));
        let question =
            format!("{label} of {}, taken {age}, {size}, will be removed from {}{last}", info.cluster, repository.name);
        confirm(&question, force, "--force")?;
    }
    let (instance, lock) = identity(context);
    let (mut removed, mut done) = (Vec::new(), Ok(()));
    for ((repository, info), is_last) in found.iter().zip(last_ones) {
        let (place, backup) = (repository.clone(), info.clone());
        done = context.bulk.spawn(async move { remove_backup(&place, &backup, instance).await }).await?;
        if done.is_err() {
            break;
        }
        if !context.json {
            let last = if is_last { ", which has no other good backup" } else { "" };
            say!("{} {label} from {}{last}", green("removed"), repository.name);
        }
        removed.push(BackupStateRecord {
            label: label.to_owned(),
            cluster: info.cluster.clone(),
            repository: repository.name.clone(),
            state: BackupState::Removed,
        });
    }
    drop(lock);
    if context.json {
        let names: Vec<_> = removed.iter().map(|record| &record.repository).collect();
        json(&serde_json::json!({"label": label, "removed_from": names}))?;
    }
    // What was removed before it broke off is written down all the same.
    context.note_backups(removed).await;
    done?;
    away.map_or(Ok(0), |words| Err(Exit::refused(words)))
}
