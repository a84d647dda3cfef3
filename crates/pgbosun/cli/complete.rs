//! What a shell offers for names that only this installation knows: jobs, clusters, repositories, labels of backups, alerts.
//!
//! Invariants: whatever keeps a name from being found out offers none and says nothing, since a shell shows what is said in the middle of a
//! line; nobody waits longer than [`PATIENCE`].

use super::Cli;
use crate::client::Client;
use clap::CommandFactory;
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCandidates, CompletionCandidate},
};
use pgbosun_core::{
    alert::Alert,
    config::{Config, DEFAULT_PATH, unread},
};
use pgbosun_daemon::api::JobInfo;
use pgbosun_repository::Repository;
use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a name may take to be found out.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where a shell's script says that it wants to complete. A name of ours alone: under it nothing is archived or fetched.
pub const VARIABLE: &str = "PGBOSUN_COMPLETE";

/// Answers a shell that completes a line, and ends then.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Names of jobs.
pub fn jobs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| match config() {
        Some(config) => named(config.jobs.keys()),
        // Who may not read the configuration may ask the daemon.
        None => asked(async {
            let jobs: Vec<JobInfo> = daemon(None).await?.get("/jobs").await.ok()?;
            Some(named(jobs.iter().map(|job| &job.name)))
        }),
    })
}

/// Names of clusters.
pub fn clusters() -> ArgValueCandidates {
    ArgValueCandidates::new(|| config().map(|config| named(config.clusters.keys())).unwrap_or_default())
}

/// Names of repositories.
pub fn repositories() -> ArgValueCandidates {
    ArgValueCandidates::new(|| config().map(|config| named(config.repositories.keys())).unwrap_or_default())
}

/// Labels of backups, the newest first, with what they are of.
pub fn labels() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(config) = config() else { return Vec::new() };
        asked(async {
            let mut found = Vec::new();
            for (name, options) in &config.repositories {
                let Ok(repository) = Repository::open(&config, name, options) else { continue };
                let Ok((backups, _)) = repository.backups(None).await else { continue };
                found.extend(
                    backups.iter().map(|info| (info.label.clone(), format!("{} of {}", info.kind, info.cluster))),
                );
            }
            found.sort_by(|a, b| b.cmp(a));
            found.dedup_by(|a, b| a.0 == b.0);
            let candidates = found.into_iter().enumerate();
            let candidates = candidates.map(|(order, (label, about))| {
                CompletionCandidate::new(label).help(Some(about.into())).display_order(Some(order))
            });
            Some(candidates.collect())
        })
    })
}

/// Ids of alerts that are open.
pub fn alerts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        asked(async {
            let alerts: Vec<Alert> = daemon(config().as_ref()).await?.get("/alerts").await.ok()?;
            let offered = alerts.iter().map(|alert| {
                let id = alert.id.simple().to_string();
                // What "alert list" shows of it.
                let id = id[id.len() - 8..].to_owned();
                CompletionCandidate::new(id).help(Some(pgbosun_core::human::line(&alert.summary).into_owned().into()))
            });
            Some(offered.collect())
        })
    })
}

fn named<'a>(names: impl Iterator<Item = &'a String>) -> Vec<CompletionCandidate> {
    names.map(CompletionCandidate::new).collect()
}

/// The configuration: what stands on the line before is not known here.
fn config() -> Option<Config> {
    let path = std::env::var_os("PGBOSUN_CONFIG").map_or_else(|| DEFAULT_PATH.into(), PathBuf::from);
    pgbosun_daemon::load(&path).ok().map(|loaded| loaded.config)
}

async fn daemon(config: Option<&Config>) -> Option<Client> {
    // Who may not read the configuration finds the daemon at its usual place.
    let usual = unread(Path::new(DEFAULT_PATH));
    Client::find(&config.or(usual.as_ref())?.daemon.control_socket).await.ok().flatten()
}

fn asked(question: impl Future<Output = Option<Vec<CompletionCandidate>>>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, question).await });
    // Nobody waits for what hangs on a file system.
    runtime.shutdown_background();
    answer.ok().flatten().unwrap_or_default()
}
