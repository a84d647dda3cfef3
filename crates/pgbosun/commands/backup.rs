//! `pgbosun backup`: create, list, show, verify. What exists is asked of the repositories, not of history.

mod manage;

use super::job::{progress_bar, run_now};
use crate::{
    cli::BackupCommand,
    exit::{DAMAGED, Exit, FAILURE},
    local::Context,
    output::{ago, bold, green, json, moment, red, table},
};
use pgbosun_backup::{Progress, Verified, verify, verify_archive};
use pgbosun_core::human;
use pgbosun_repository::{BackupInfo, Repository};
use std::{sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: BackupCommand) -> anyhow::Result<u8> {
    match command {
        BackupCommand::Create { job } => create(context, job).await,
        BackupCommand::List { cluster } => list(context, cluster.as_deref()).await,
        BackupCommand::Show { label } => show(context, &label).await,
        BackupCommand::Copy { label, to, from } => manage::copy(context, &label, &to, from.as_deref()).await,
        BackupCommand::Expire { cluster, repository, dry_run } => {
            manage::expire(context, cluster.as_deref(), repository.as_deref(), dry_run).await
        }
        BackupCommand::Keep { label, reason } => manage::keep(context, &label, Some(reason)).await,
        BackupCommand::Unkeep { label } => manage::keep(context, &label, None).await,
        BackupCommand::Verify { label, all, latest: _ } => verify_some(context, label.as_deref(), all).await,
    }
}

async fn create(context: &Context, job: Option<String>) -> anyhow::Result<u8> {
    let jobs = context.config.jobs.values().filter(|job| job.common.kind.starts_with("backup."));
    let names: Vec<_> = jobs.map(|job| job.name.as_str()).collect();
    let name = match (job, names.as_slice()) {
        (Some(job), _) => job,
        (None, [only]) => (*only).to_owned(),
        (None, []) => return Err(Exit::usage("no job of kind backup.physical is configured")),
        (None, names) => return Err(Exit::usage(format!("which job? configured: {}", names.join(", ")))),
    };
    run_now(context, &name, true, false).await
}

async fn list(context: &Context, cluster: Option<&str>) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    let mut damaged = Vec::new();
    for repository in context.repositories(None)? {
        match repository.shown(cluster).await {
            Ok((backups, broken)) => {
                found.extend(backups.into_iter().map(|info| (repository.name.clone(), info)));
                damaged.extend(broken.into_iter().map(|error| format!("{}: {error}", repository.name)));
            }
            // One that is away does not hide the others.
            Err(error) => damaged.push(format!("{}: {}", repository.name, human::chain(&error))),
        }
    }
    if context.json {
        let list: Vec<_> = found.iter().map(|(repository, info)| summary(repository, info)).collect();
        json(&list)?;
    } else {
        let zone = context.zone();
        let rows = found.iter().map(|(repository, info)| {
            vec![
                info.label.clone(),
                info.cluster.clone(),
                repository.clone(),
                info.kind.clone(),
                moment(info.finished_at, zone),
                human::span(info.finished_at - info.started_at),
                human::size(info.bytes),
                human::size(info.stored_bytes),
                if info.checksum_failures { red("suspect") } else { String::new() },
            ]
        });
        println!(
            "{}",
            table(&["BACKUP", "CLUSTER", "REPOSITORY", "KIND", "FINISHED", "TOOK", "SIZE", "STORED", ""], rows)
        );
        if found.is_empty() {
            println!("no backups yet; \"pgbosun backup create\" takes one");
        }
    }
    for error in &damaged {
        eprintln!("{} {error}", red("not listed:"));
    }
    Ok(if damaged.is_empty() { 0 } else { FAILURE })
}

fn summary(repository: &str, info: &BackupInfo) -> serde_json::Value {
    serde_json::json!({
        "label": info.label, "cluster": info.cluster, "repository": repository, "kind": info.kind,
        "started-at": info.started_at, "finished-at": info.finished_at, "bytes": info.bytes,
        "stored-bytes": info.stored_bytes, "start-lsn": info.start_lsn, "stop-lsn": info.stop_lsn,
        "timeline": info.timeline, "system-id": info.system_id, "server-version": info.server_version,
        "suspect": info.checksum_failures, "parent": info.parent, "job": info.job,
    })
}

/// The repositories that have this backup.
pub async fn find(context: &Context, label: &str) -> anyhow::Result<Vec<(Repository, BackupInfo)>> {
    let mut found = Vec::new();
    for repository in context.repositories(None)? {
        match repository.find(None, label).await {
            Ok(info) => found.push((repository, info)),
            Err(pgbosun_repository::Error::NoBackup(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() {
        return Err(pgbosun_repository::Error::NoBackup(label.to_owned()).into());
    }
    Ok(found)
}

async fn show(context: &Context, label: &str) -> anyhow::Result<u8> {
    let found = find(context, label).await?;
    if context.json {
        json(&found.iter().map(|(_, info)| info).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let zone = context.zone();
    for (repository, info) in found {
        let databases: Vec<_> =
            info.databases.iter().map(|(name, size)| format!("{name} ({})", human::size(*size))).collect();
        let tablespaces: Vec<_> =
            info.tablespaces.iter().map(|space| format!("{} at {}", space.oid, space.location)).collect();
        let ratio = info.bytes as f64 / info.stored_bytes.max(1) as f64;
        println!("{} in {}", bold(&info.label), repository.name);
        for (name, value) in [
            ("cluster", format!("{} ({}), system identifier {}", info.cluster, info.server, info.system_id)),
            ("server", format!("PostgreSQL {}", info.server_version)),
            (
                "taken",
                format!(
                    "{} to {}, {}",
                    moment(info.started_at, zone),
                    moment(info.finished_at, zone),
                    ago(info.finished_at)
                ),
            ),
            (
                "kind",
                match &info.parent {
                    Some(parent) => format!("incremental upon {parent}"),
                    None => info.kind.clone(),
                },
            ),
            (
                "encryption",
                match info.encrypted_to.len() {
                    0 => "none".into(),
                    _ => format!("age, to {}", info.encrypted_to.join(", ")),
                },
            ),
            (
                "size",
                format!("{} stored as {} ({ratio:.1} : 1)", human::size(info.bytes), human::size(info.stored_bytes)),
            ),
            ("wal", format!("{} to {}, timeline {}", info.start_lsn, info.stop_lsn, info.timeline)),
            ("databases", databases.join(", ")),
            ("tablespaces", if tablespaces.is_empty() { "none".into() } else { tablespaces.join(", ") }),
            (
                "checksums",
                if info.checksum_failures {
                    red("damaged pages found: suspect")
                } else {
                    "no damaged page reported".into()
                },
            ),
        ] {
            println!("  {name:<12} {value}");
        }
        let rows = info
            .objects
            .iter()
            .map(|object| vec![format!("  {}", object.name), human::size(object.size), object.sha256[..16].to_owned()]);
        println!("{}\n", table(&["  OBJECT", "STORED", "SHA-256"], rows));
    }
    Ok(0)
}

async fn verify_some(context: &Context, label: Option<&str>, all: bool) -> anyhow::Result<u8> {
    let mut chosen = Vec::new();
    let mut broken = Vec::new();
    match label {
        Some(label) => chosen = find(context, label).await?,
        None => {
            for repository in context.repositories(None)? {
                let (backups, damaged) = repository.backups(None).await?;
                broken.extend(damaged.into_iter().map(|error| format!("{}: {error}", repository.name)));
                let newest = |info: &BackupInfo| {
                    backups.iter().rfind(|other| other.cluster == info.cluster).map(|i| &i.label) == Some(&info.label)
                };
                let wanted: Vec<_> = backups.iter().filter(|info| all || newest(info)).cloned().collect();
                chosen.extend(wanted.into_iter().map(|info| (repository.clone(), info)));
            }
        }
    }
    let mut results = Vec::new();
    for (repository, info) in chosen {
        results.push((repository.name.clone(), verify_one(context, repository, info).await?));
    }
    if all {
        for repository in context.repositories(None)? {
            for cluster in context.config.clusters.keys() {
                if !repository.system_ids(cluster).await?.is_empty() {
                    results.push((repository.name.clone(), verify_wal(context, repository.clone(), cluster).await?));
                }
            }
        }
    }
    let good = broken.is_empty() && results.iter().all(|(_, verified)| verified.passed());
    if context.json {
        let list: Vec<_> = results
            .iter()
            .map(|(repository, v)| serde_json::json!({"repository": repository, "label": v.label, "passed": v.passed(), "checks": v.checks}))
            .collect();
        json(&list)?;
    } else {
        for (repository, verified) in &results {
            println!("{} in {repository}", bold(&verified.label));
            for check in &verified.checks {
                let word = if check.passed { green("ok    ") } else { red("FAILED") };
                println!("  {word} {:<10} {}", check.name, check.detail.replace('\n', "\n                    "));
            }
        }
        if results.is_empty() && broken.is_empty() {
            println!("no backups to verify");
        }
    }
    for error in &broken {
        eprintln!("{} {error}", red("damaged:"));
    }
    Ok(if good { 0 } else { DAMAGED })
}

async fn verify_one(context: &Context, repository: Repository, info: BackupInfo) -> anyhow::Result<Verified> {
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

/// Runs bulk work on its own runtime, showing how far it is. INT and TERM tell it to stop, and wait for that.
pub async fn watch<T: Send + 'static>(
    context: &Context,
    label: &str,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    work: impl Future<Output = Result<T, pgbosun_backup::Error>> + Send + 'static,
) -> anyhow::Result<T> {
    let bar = progress_bar();
    bar.set_message(label.to_owned());
    let mut work = context.bulk.spawn(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return Ok(done??);
            }
            () = stop_signal(), if !cancel.is_cancelled() => cancel.cancel(),
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let snapshot = progress.snapshot();
                bar.set_length(snapshot.total);
                bar.set_position(snapshot.done);
            }
        }
    }
}

/// Returns when somebody asks this command to stop.
pub async fn stop_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
