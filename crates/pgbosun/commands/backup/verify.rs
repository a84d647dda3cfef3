//! `pgbosun backup verify`: reads what is stored, and writes down what came of it (C8).

use super::{find, watch};
use crate::{
    exit::DAMAGED,
    local::Context,
    output::{bold, green, json, red},
};
use pgbosun_backup::{Progress, Verified, verify, verify_archive};
use pgbosun_core::human;
use pgbosun_jobs::note_verification;
use pgbosun_repository::{BackupInfo, Repository};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Verifies one, the newest of each cluster, or all with their WAL.
///
/// # Errors
/// Where there is no such backup, or somebody asked to stop.
pub async fn verify_some(context: &Context, label: Option<&str>, all: bool) -> anyhow::Result<u8> {
    let mut chosen = Vec::new();
    let mut broken = Vec::new();
    match label {
        Some(label) => chosen = find(context, label).await?,
        None => {
            for repository in context.repositories(None)? {
                let (backups, damaged) = match repository.backups(None).await {
                    Ok(listed) => listed,
                    Err(error) => {
                        broken.push(format!("{}: {}", repository.name, human::chain(&error)));
                        continue;
                    }
                };
                broken.extend(damaged.into_iter().map(|error| format!("{}: {error}", repository.name)));
                let newest = |info: &BackupInfo| {
                    backups.iter().rfind(|other| other.cluster == info.cluster).map(|i| &i.label) == Some(&info.label)
                };
                let wanted: Vec<_> = backups.iter().filter(|info| all || newest(info)).cloned().collect();
                chosen.extend(wanted.into_iter().map(|info| (repository.clone(), info)));
            }
        }
    }
    let (mut results, mut noted) = (Vec::new(), Vec::new());
    let work = async {
        for (repository, info) in chosen {
            match verify_one(context, repository.clone(), info.clone()).await {
                Ok(verified) => {
                    results.push((repository.name.clone(), verified.clone()));
                    noted.push((repository, info, verified.passed()));
                }
                Err(error) if label.is_some() || is_cancelled(&error) => return Err(error),
                // What cannot be looked into says nothing about the others.
                Err(error) => broken.push(format!("{} in {}: {error:#}", info.label, repository.name)),
            }
        }
        let archives = if all { context.repositories(None)? } else { Vec::new() };
        for repository in archives {
            for cluster in context.config.clusters.keys() {
                // One that is away is told of above.
                if repository.system_ids(cluster).await.is_ok_and(|known| !known.is_empty()) {
                    match verify_wal(context, repository.clone(), cluster).await {
                        Ok(verified) => results.push((repository.name.clone(), verified)),
                        Err(error) if is_cancelled(&error) => return Err(error),
                        Err(error) => broken.push(format!("WAL of {cluster} in {}: {error:#}", repository.name)),
                    }
                }
            }
        }
        anyhow::Ok(())
    };
    let done = work.await;
    // C8: what came of it lies beside the backup, so that whoever chooses one knows. Last, since what lay there was looked at.
    let mut changes = Vec::new();
    for (repository, info, passed) in noted {
        match note_verification(&repository, &info, passed).await {
            Ok((_, states)) => changes.extend(states),
            Err(error) => tell!("{} {}", red("result not recorded with the backup:"), human::chain(&error)),
        }
    }
    context.note_backups(changes).await;
    // What was found before it broke off is written down all the same.
    done?;
    let good = broken.is_empty() && results.iter().all(|(_, verified)| verified.passed());
    if context.json {
        let list: Vec<_> = results
            .iter()
            .map(|(repository, v)| serde_json::json!({"repository": repository, "label": v.label, "passed": v.passed(), "checks": v.checks}))
            .collect();
        json(&list)?;
    } else {
        for (repository, verified) in &results {
            say!("{} in {repository}", bold(&verified.label));
            for check in &verified.checks {
                let word = if check.passed { green("ok    ") } else { red("FAILED") };
                say!("  {word} {:<10} {}", check.name, check.detail.replace('\n', "\n                    "));
            }
        }
        if results.is_empty() && broken.is_empty() {
            say!("no backups to verify");
        }
    }
    for error in &broken {
        tell!("{} {error}", red("not verified:"));
    }
    Ok(if good { 0 } else { DAMAGED })
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(pgbosun_backup::Error::Cancelled))
}

pub(super) async fn verify_one(
    context: &Context,
    repository: Repository,
    info: BackupInfo,
) -> anyhow::Result<Verified> {
    let progress = Arc::new(Progress::default());
    let label = info.label.clone();
    let cancel = CancellationToken::new();
    let work = {
        let (progress, cancel) = (Arc::clone(&progress), cancel.clone());
        async move { verify(&repository, &info, &progress, &cancel).await }
    };
    watch(context, &label, progress, cancel, work).await
}

async fn verify_wal(context: &Context, repository: Repository, cluster: &str) -> anyhow::Result<Verified> {
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let (cluster, label) = (cluster.to_owned(), format!("WAL of {cluster}"));
    let work = {
        let (progress, cancel) = (Arc::clone(&progress), cancel.clone());
        async move { verify_archive(&repository, &cluster, &progress, &cancel).await }
    };
    watch(context, &label, progress, cancel, work).await
}
