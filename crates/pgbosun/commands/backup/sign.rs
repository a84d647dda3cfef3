//! `pgbosun backup sign`: signs what no trusted key has signed, once it was read and found whole (C42).

use super::{verify::verify_one, watch};
use crate::{
    exit::{DAMAGED, Exit},
    local::Context,
    output::{confirm, green, json, red},
};
use pgbosun_backup::{Progress, sign_wal, unreadable_backup, unsigned_backups};
use pgbosun_core::human;
use pgbosun_jobs::note_verification;
use pgbosun_repository::{BackupInfo, Repository};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What came of it, by repository.
#[derive(Default)]
struct Told {
    signed: Vec<serde_json::Value>,
    refused: Vec<String>,
}

/// Signs a backup with what it builds on, or everything where no label is given.
///
/// # Errors
/// Where this host cannot sign, or nobody agreed; what a repository answered.
pub async fn run(context: &Context, label: Option<&str>, repository: Option<&str>, force: bool) -> anyhow::Result<u8> {
    let mut repositories = context.repositories(repository)?;
    // Of several those count that are set up for it.
    if repository.is_none() {
        repositories.retain(|one| !one.options.trusted_keys.is_empty());
    }
    if repositories.is_empty() {
        return Err(Exit::refused("no repository has trusted-keys: see docs/signatures.md"));
    }
    // All is asked before anything is signed.
    let mut agreed = Vec::new();
    for repository in repositories {
        let unsigned = unsigned_backups(&repository, label).await?;
        let labels: Vec<_> = unsigned.iter().map(|info| info.label.as_str()).collect();
        let what = match (labels.as_slice(), label) {
            ([], Some(label)) => {
                if !context.json {
                    say!("{label} in {} is already fully signed", repository.name);
                }
                continue;
            }
            ([], None) => "all WAL".to_owned(),
            ([one], Some(_)) => format!("backup {one}"),
            ([one], None) => format!("backup {one} and all WAL"),
            (labels, Some(_)) => format!("backups {}", labels.join(", ")),
            (labels, None) => format!("backups {} and all WAL", labels.join(", ")),
        };
        let question = format!(
            "{what} in {}: if intact, what no trusted key has signed will be signed and trusted from now on. Anyone who may \
             write there could have forged it",
            repository.name
        );
        confirm(&question, force, "--force")?;
        agreed.push((repository, unsigned));
    }
    let mut told = Told::default();
    for (repository, unsigned) in agreed {
        sign_backups(context, &repository, unsigned, &mut told).await?;
        if label.is_none() {
            sign_archives(context, &repository, &mut told).await?;
        }
    }
    if context.json {
        json(&serde_json::json!({"signed": told.signed, "refused": told.refused}))?;
    }
    for refused in &told.refused {
        tell!("{} {refused}", red("not signed:"));
    }
    Ok(if told.refused.is_empty() { 0 } else { DAMAGED })
}

async fn sign_backups(
    context: &Context,
    repository: &Repository,
    unsigned: Vec<BackupInfo>,
    told: &mut Told,
) -> anyhow::Result<()> {
    for info in unsigned {
        if let Some(reason) = unreadable_backup(repository, &info)? {
            told.refused.push(format!("{} in {}: {reason}", info.label, repository.name));
            continue;
        }
        let verified = verify_one(context, repository.unchecked(), info.clone()).await?;
        if !verified.passed() {
            let faults = verified.checks.iter().filter(|check| !check.passed);
            let faults: Vec<_> = faults.map(|check| format!("{}: {}", check.name, check.detail)).collect();
            told.refused.push(format!("{} in {}: {}", info.label, repository.name, faults.join("; ")));
            continue;
        }
        repository.sign_backup(&info).await?;
        let (_, states) = note_verification(repository, &info, true).await?;
        context.note_backups(states).await;
        if !context.json {
            say!("{} {} in {}", green("signed"), info.label, repository.name);
        }
        told.signed.push(serde_json::json!({"repository": repository.name, "label": info.label}));
    }
    Ok(())
}

async fn sign_archives(context: &Context, repository: &Repository, told: &mut Told) -> anyhow::Result<()> {
    for cluster in context.config.clusters.keys() {
        for system_id in repository.system_ids(cluster).await? {
            let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
            let label = format!("WAL of {cluster}");
            let work = {
                let (place, cluster) = (repository.clone(), cluster.clone());
                let (progress, cancel) = (Arc::clone(&progress), cancel.clone());
                async move { sign_wal(&place, &cluster, &system_id, &progress, &cancel).await }
            };
            let done = watch(context, &label, progress, cancel, work).await?;
            if !context.json && done.signed > 0 {
                say!(
                    "{} {} of {cluster} in {}",
                    green("signed"),
                    human::count(done.signed, "WAL file"),
                    repository.name
                );
            }
            told.signed
                .push(serde_json::json!({"repository": repository.name, "cluster": cluster, "wal": done.signed}));
            told.refused.extend(done.refused);
        }
    }
    Ok(())
}
