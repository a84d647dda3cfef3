//! `pgbosun backup`: create, list, show, verify. What exists is asked of the repositories, not of history.

mod label;
mod list;
mod manage;
mod remove;
mod sign;
mod verify;

pub use label::label;

use super::job::run_now;
use crate::{cli::BackupCommand, exit::Exit, local::Context, output::red, progress::Bar};
use pgbosun_backup::Progress;
use pgbosun_core::{family::Family, human};
use pgbosun_daemon::api::JobInfo;
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
        BackupCommand::List { cluster } => list::list(context, cluster.as_deref()).await,
        BackupCommand::Show { label } => list::show(context, &label).await,
        BackupCommand::Copy { label, to, from } => manage::copy(context, &label, &to, from.as_deref()).await,
        BackupCommand::Expire { cluster, repository, dry_run, force } => {
            manage::expire(context, cluster.as_deref(), repository.as_deref(), dry_run, force).await
        }
        BackupCommand::Keep { label, reason } => manage::keep(context, &label, Some(reason)).await,
        BackupCommand::Unkeep { label } => manage::keep(context, &label, None).await,
        BackupCommand::Remove { label, repository, force } => {
            remove::run(context, &label, repository.as_deref(), force).await
        }
        BackupCommand::Sign { label, all, repository, force } => {
            sign::run(context, label.as_deref().filter(|_| !all), repository.as_deref(), force).await
        }
        BackupCommand::Verify { label, all, latest: _ } => verify::verify_some(context, label.as_deref(), all).await,
    }
}

async fn create(context: &Context, job: Option<String>) -> anyhow::Result<u8> {
    let names = if job.is_none() { backup_jobs(context).await? } else { Vec::new() };
    let name = match (job, names.as_slice()) {
        (Some(job), _) => job,
        (None, [only]) => only.clone(),
        (None, []) => return Err(Exit::usage("no job of kind backup.physical is configured")),
        (None, names) => return Err(Exit::usage(format!("which job? configured: {}", names.join(", ")))),
    };
    run_now(context, &name, true, false).await
}

async fn backup_jobs(context: &Context) -> anyhow::Result<Vec<String>> {
    if context.is_guest {
        let jobs: Vec<JobInfo> = context.need_daemon("a backup").await?.get("/jobs").await?;
        return Ok(jobs
            .into_iter()
            .filter(|job| Family::of(&job.kind) == Family::Backup)
            .map(|job| job.name)
            .collect());
    }
    let jobs = context.config.jobs.values().filter(|job| job.family() == Family::Backup);
    Ok(jobs.map(|job| job.name.clone()).collect())
}

/// The repositories that have the backup whose label begins like this.
pub async fn find(context: &Context, beginning: &str) -> anyhow::Result<Vec<(Repository, BackupInfo)>> {
    let (mut found, mut away) = (Vec::new(), Vec::new());
    let repositories = context.repositories(None)?;
    let label = label(&repositories, beginning).await?;
    for repository in repositories {
        match repository.find(None, &label).await {
            Ok(info) => found.push((repository, info)),
            Err(pgbosun_repository::Error::NoBackup(_)) => {}
            Err(error) => away.push((repository.name, error)),
        }
    }
    // One that is away says nothing about the others.
    match (found.is_empty(), away) {
        (false, away) => {
            for (name, error) in away {
                tell!("{} {name}: {}", red("not checked:"), human::chain(&error));
            }
            Ok(found)
        }
        (true, away) => match away.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Err(pgbosun_repository::Error::NoBackup(label).into()),
        },
    }
}

/// How long work may take to clean up after it was told to stop: what it waits for may never answer.
const GRACE: Duration = Duration::from_secs(10);

/// Runs bulk work on its own runtime, showing how far it is. INT and TERM tell it to stop, and wait a little for that; what a killed
/// process would leave the next one finds.
pub async fn watch<T: Send + 'static>(
    context: &Context,
    label: &str,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    work: impl Future<Output = Result<T, pgbosun_backup::Error>> + Send + 'static,
) -> anyhow::Result<T> {
    let mut bar = Bar::new(label);
    let mut work = context.bulk.spawn(work);
    // One for all the time: a signal between two of them would be lost.
    let mut stop = std::pin::pin!(stop_signal());
    let told = cancel.clone();
    let mut end_of_grace = std::pin::pin!(async move {
        told.cancelled().await;
        tokio::time::sleep(GRACE).await;
    });
    loop {
        tokio::select! {
            done = &mut work => {
                bar.clear();
                return Ok(done??);
            }
            () = &mut stop, if !cancel.is_cancelled() => cancel.cancel(),
            () = &mut end_of_grace => {
                bar.clear();
                return Err(pgbosun_backup::Error::Cancelled.into());
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                bar.show(progress.snapshot(), &progress.words());
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
