//! `pgbosun restore`: from the repository alone; neither daemon nor history is needed (C22).

use super::backup::{find, watch};
use crate::{cli::RestoreCommand, exit::Exit, local::Context, output};
use pgbosun_backup::{Progress, Restore};
use pgbosun_core::human;
use pgbosun_repository::{BackupInfo, Repository};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: RestoreCommand) -> anyhow::Result<u8> {
    let RestoreCommand::Physical { to, backup, cluster, repository, tablespace, keep_archiving } = command;
    let target = std::path::absolute(&to)?;
    let (repository, info) = choose(context, backup.as_deref(), cluster.as_deref(), repository.as_deref()).await?;
    let progress = Arc::new(Progress::default());
    let cancel = CancellationToken::new();
    let restore = Restore {
        repository,
        info: info.clone(),
        target: target.clone(),
        tablespaces: tablespace.iter().map(|pair| mapping(pair)).collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        keep_archiving,
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    let name = restore.repository.name.clone();
    eprintln!("restoring {} of {} from {name} into {}", info.label, info.cluster, target.display());
    let begun = Instant::now();
    let restored = watch(context, &info.label, progress, cancel, async move { restore.run().await }).await?;
    let took = human::duration(begun.elapsed());
    if context.json {
        output::json(&serde_json::json!({
            "label": info.label, "cluster": info.cluster, "repository": name, "target": target,
            "files": restored.files, "bytes": restored.bytes, "seconds": begun.elapsed().as_secs_f64(),
        }))?;
    } else {
        println!("{} {} files, {} in {took}", output::green("restored"), restored.files, human::size(restored.bytes));
        if !keep_archiving {
            println!(
                "archive_mode is off in the copy (postgresql.auto.conf), so that it cannot archive over the original's WAL"
            );
        }
        let major = info.server_version.split('.').next().unwrap_or_default();
        println!("start it with: /usr/lib/postgresql/{major}/bin/pg_ctl -D {} start", target.display());
    }
    Ok(0)
}

async fn choose(
    context: &Context,
    backup: Option<&str>,
    cluster: Option<&str>,
    repository: Option<&str>,
) -> anyhow::Result<(Repository, BackupInfo)> {
    if let Some(label) = backup {
        let found = find(context, label).await?;
        let mut fitting = found.into_iter().filter(|(place, info)| {
            repository.is_none_or(|name| place.name == name) && cluster.is_none_or(|name| info.cluster == name)
        });
        return fitting
            .next()
            .ok_or_else(|| Exit::refused(format!("backup {label} is not there, or of another cluster")));
    }
    let cluster = context.cluster(cluster)?;
    let mut newest: Option<(Repository, BackupInfo)> = None;
    for repository in context.repositories(repository)? {
        if let Some(info) = repository.newest_good(&cluster).await?
            && newest.as_ref().is_none_or(|(_, known)| info.started_at > known.started_at)
        {
            newest = Some((repository, info));
        }
    }
    newest.ok_or_else(|| Exit::refused(format!("there is no good backup of {cluster}")))
}

fn mapping(pair: &str) -> anyhow::Result<(String, PathBuf)> {
    match pair.split_once('=') {
        Some((old, new)) if new.starts_with('/') => Ok((old.to_owned(), new.into())),
        _ => Err(Exit::usage(format!("--tablespace {pair}: write OLD=NEW with absolute paths"))),
    }
}
