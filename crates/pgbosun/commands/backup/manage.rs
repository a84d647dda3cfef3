//! `pgbosun backup copy|expire|keep|unkeep`: looking after what is there.

use super::{find, watch};
use crate::{
    exit::Exit,
    local::Context,
    output::{ago, aside, bold, confirm, green, json, red, table, text, whole},
};
use pgbosun_backup::{Expired, Progress, copy_backup};
use pgbosun_core::{
    clock, human,
    outcome::{BackupState, BackupStateRecord},
};
use pgbosun_history::{Actor, StateLock};
use pgbosun_jobs::expiry;
use pgbosun_postgres::Server;
use pgbosun_repository::{Keep, Repository};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Copies a backup.
///
/// # Errors
/// What either repository answered.
pub async fn copy(context: &Context, label: &str, to: &str, from: Option<&str>) -> anyhow::Result<u8> {
    let mut found = find(context, label).await?;
    found.retain(|(repository, _)| repository.name != to && from.is_none_or(|name| name == repository.name));
    let Some((source, info)) = found.into_iter().next() else {
        return Err(Exit::refused(format!("no other repository has {label}")));
    };
    let label = &info.label.clone();
    let target = context.repositories(Some(to))?.remove(0);
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let (name, token) = (source.name.clone(), cancel.clone());
    let (instance, _lock) = identity(context);
    let work = async move { copy_backup(&source, &target, &info, instance, &token).await };
    let copied = watch(context, label, progress, cancel, work).await?;
    if context.json {
        json(&serde_json::json!({"from": name, "to": to, "labels": copied.backups, "bytes": copied.bytes}))?;
        return Ok(0);
    }
    match copied.backups.as_slice() {
        [] => say!("{to} already has {label}"),
        labels => {
            say!("{} {} from {name} to {to} ({})", green("copied"), labels.join(", "), human::size(copied.bytes));
            say!(
                "WAL after the end of the backup is not copied; to restore later points in time from there, configure a job of \
                 kind replicate"
            );
        }
    }
    Ok(0)
}

/// Who this command is for leases: the installation itself only while nothing else of it can be at work, which the lock
/// of the state directory says; beside a daemon it is nobody, and judges nobody's work dead.
pub(super) fn identity(context: &Context) -> (Uuid, Option<StateLock>) {
    let directory = &context.config.daemon.state_directory;
    let Ok(lock) = StateLock::take(directory) else { return (Uuid::now_v7(), None) };
    let known = std::fs::read_to_string(directory.join("instance"));
    let known = known.ok().and_then(|text| text.trim().parse().ok());
    (known.unwrap_or_else(Uuid::now_v7), Some(lock))
}

/// Expires as configured.
///
/// # Errors
/// Where somebody else is at work in a repository, or it cannot be asked.
pub async fn expire(
    context: &Context,
    cluster: Option<&str>,
    repository: Option<&str>,
    dry_run: bool,
    force: bool,
) -> anyhow::Result<u8> {
    let clusters = match cluster {
        Some(named) => vec![context.cluster(Some(named))?],
        None => context.config.clusters.keys().cloned().collect(),
    };
    let repositories = context.repositories(repository)?;
    if !dry_run && !force {
        ask(context, &repositories, &clusters).await?;
    }
    let mut clocks = std::collections::BTreeMap::new();
    for cluster in &clusters {
        let server = Server::of(&context.config.clusters[cluster])?;
        clocks.insert(cluster.clone(), expiry::witnesses(cluster, &server).await);
    }
    let (mut told, mut changes) = (Vec::new(), Vec::new());
    let (instance, lock) = identity(context);
    let work = async {
        for repository in &repositories {
            for cluster in &clusters {
                let mut expire = expiry::configured(&context.config, cluster, repository, instance, true, dry_run);
                expire.witnesses = clocks.get(cluster).cloned().unwrap_or_default();
                let (expired, done) = context.bulk.spawn(async move { expire.run(clock::now()).await }).await?;
                changes.extend(expired.removed.iter().map(|label| BackupStateRecord {
                    label: label.clone(),
                    cluster: cluster.clone(),
                    repository: repository.name.clone(),
                    state: BackupState::Removed,
                }));
                if context.json {
                    told.push(as_json(repository, cluster, &expired, dry_run));
                } else {
                    show(repository, cluster, &expired, dry_run);
                }
                done?;
            }
        }
        anyhow::Ok(())
    };
    let done = work.await;
    drop(lock);
    context.note_backups(changes).await;
    // What was removed before it broke off is written down all the same.
    if context.json {
        json(&told)?;
    }
    done.map(|()| 0)
}

/// Asks before anything is removed, naming what it is.
async fn ask(context: &Context, repositories: &[Repository], clusters: &[String]) -> anyhow::Result<()> {
    for repository in repositories {
        for cluster in clusters {
            let expire = expiry::configured(&context.config, cluster, repository, Uuid::now_v7(), true, true);
            let (would, done) = context.bulk.spawn(async move { expire.run(clock::now()).await }).await?;
            done?;
            let goes = would.decisions.iter().filter(|(_, reason)| reason.is_none());
            let labels: Vec<_> =
                goes.map(|(info, _)| format!("{} (taken {})", info.label, ago(info.finished_at))).collect();
            if !labels.is_empty() || would.wal_removed > 0 {
                let wal = (would.wal_removed > 0).then(|| human::count(would.wal_removed, "WAL file"));
                let backups = match labels.as_slice() {
                    [] => None,
                    [one] => Some(format!("backup {one}")),
                    many => Some(format!("backups {}", many.join(", "))),
                };
                let what = backups.into_iter().chain(wal).collect::<Vec<_>>().join(" and ");
                let place = &repository.name;
                confirm(&format!("{what} of {cluster} will be removed from {place}"), false, "--force")?;
            }
        }
    }
    Ok(())
}

fn show(repository: &Repository, cluster: &str, expired: &Expired, dry_run: bool) {
    say!("{cluster} in {}", bold(&repository.name));
    let rows = expired.decisions.iter().map(|(info, reason)| {
        let (word, why) = match reason {
            Some(reason) => (green("stays"), reason.clone()),
            None => (red(if dry_run { "would be removed" } else { "removed" }), "no rule keeps it".to_owned()),
        };
        let job = info.job.clone().unwrap_or_default();
        vec![info.label.clone(), info.kind.clone(), job, word, why]
    });
    say!("{}", table(&[whole("BACKUP"), aside("KIND"), aside("JOB"), whole(""), text("WHY")], rows));
    let word = if dry_run { "would be removed" } else { "removed" };
    let (removed, size) = (human::count(expired.wal_removed, "file"), human::size(expired.wal_bytes));
    say!("WAL: {removed} {word} ({size}), {} kept", expired.wal_kept);
    for label in &expired.leftovers {
        say!("removed {label}, left over from a crash");
    }
}

fn as_json(repository: &Repository, cluster: &str, expired: &Expired, dry_run: bool) -> serde_json::Value {
    let backups: Vec<_> = expired
        .decisions
        .iter()
        .map(|(info, reason)| serde_json::json!({"label": info.label, "stays": reason.is_some(), "why": reason}))
        .collect();
    serde_json::json!({
        "repository": repository.name, "cluster": cluster, "dry_run": dry_run, "backups": backups,
        "wal_removed": expired.wal_removed, "wal_bytes": expired.wal_bytes, "wal_kept": expired.wal_kept,
        "leftovers": expired.leftovers,
    })
}

/// Keeps a backup, or gives it back.
///
/// # Errors
/// Where there is no such backup, or a repository cannot be written.
pub async fn keep(context: &Context, label: &str, reason: Option<String>) -> anyhow::Result<u8> {
    let mut told = Vec::new();
    for (repository, info) in find(context, label).await? {
        let (place, label) = (info.place(), &info.label);
        let words = match &reason {
            Some(reason) => {
                let keep = Keep { by: Actor::own().name, at: clock::now(), reason: reason.clone() };
                repository.keep(&place, &keep).await?;
                format!("{label} in {} is kept: {reason}", repository.name)
            }
            None => {
                repository.unkeep(&place).await?;
                format!("{label} in {} is subject to retention again", repository.name)
            }
        };
        if !context.json {
            say!("{words}");
        }
        told.push(serde_json::json!({"label": label, "repository": repository.name, "kept": reason.is_some()}));
    }
    if context.json {
        json(&told)?;
    }
    Ok(0)
}
