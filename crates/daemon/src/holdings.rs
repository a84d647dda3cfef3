//! What the repositories hold (C35): each says so itself, within a limit of time; for one that cannot be read history tells what it held
//! when it was last seen, marked so. `status` ([`held`]) and `backup list` ([`list_catalogues`]) both ask here.

use crate::{Error, api::Restorable, chain, engine::Engine};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use pgbosun_backup::{Catalogue, Entry};
use pgbosun_core::outcome::BackupState;
use pgbosun_history::BackupRow;
use pgbosun_jobs::reach;
use pgbosun_repository::Repository;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How long a repository may take to say what it holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer serves to which moments a restore can reach: finding that out lists whole WAL archives.
pub(crate) const SERVES: Duration = Duration::from_secs(180);

/// A backup in a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holding {
    /// Cluster.
    pub cluster: String,
    /// Repository.
    pub repository: String,
    /// Label.
    pub label: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// What is known of it.
    pub state: String,
    /// Whether it may be restored, as far as is known.
    pub good: bool,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// Bytes read from the server.
    pub bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
}

impl Holding {
    /// One that is in a repository now.
    pub fn of(repository: &str, entry: &Entry) -> Self {
        let (info, health) = (&entry.info, entry.health());
        Self {
            cluster: info.cluster.clone(),
            repository: repository.to_owned(),
            label: info.label.clone(),
            kind: info.kind.clone(),
            state: health.word().to_owned(),
            good: health.is_good(),
            started_at: info.started_at,
            finished_at: info.finished_at,
            bytes: info.bytes,
            stored_bytes: info.stored_bytes,
        }
    }
}

impl From<&BackupRow> for Holding {
    fn from(row: &BackupRow) -> Self {
        Self {
            cluster: row.cluster.clone(),
            repository: row.repository.clone(),
            label: row.label.clone(),
            kind: row.kind.clone(),
            state: row.state.to_string(),
            good: row.state.is_good(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            bytes: row.bytes.unsigned_abs(),
            stored_bytes: row.stored_bytes.unsigned_abs(),
        }
    }
}

/// What history has of a repository: oldest first, without what was removed.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn last_seen(engine: &Engine, repository: &str) -> Result<Vec<Holding>, Error> {
    let rows = engine.journal.backups().await?;
    let there = |row: &&BackupRow| row.repository == repository && row.state != BackupState::Removed;
    Ok(rows.iter().rev().filter(there).map(Holding::from).collect())
}

/// A repository, and what it holds or held.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub repository: String,
    /// Why it cannot be read; what it holds is then what it held.
    pub away: Option<String>,
    pub backups: Vec<Holding>,
    /// What is there and cannot be read, in words.
    pub unreadable: Vec<String>,
}

/// The backups of a repository and what of it cannot be read; or why nothing can be said.
pub(crate) type Seen = Result<(Vec<Holding>, Vec<String>), String>;

async fn read(repository: Repository, cluster: Option<String>) -> Result<Catalogue, String> {
    Catalogue::shown(&repository, cluster.as_deref()).await.map_err(|error| chain(&error))
}

fn silent() -> String {
    format!("it did not answer within {PATIENCE:?}")
}

/// What each of these repositories holds, or why that is unknown, in words: it may take [`PATIENCE`] to answer.
pub async fn list_catalogues(
    bulk: &Handle,
    repositories: &[Repository],
    cluster: Option<&str>,
) -> Vec<Result<Catalogue, String>> {
    let listings = repositories.iter().map(|repository| {
        let read = bulk.spawn(read(repository.clone(), cluster.map(str::to_owned)));
        async {
            let answered = tokio::time::timeout(PATIENCE, read).await.map_err(|_| silent())?;
            answered.unwrap_or_else(|error| Err(error.to_string()))
        }
    });
    join_all(listings).await
}

/// What every configured repository holds, in their order; each backup after those it follows.
pub(crate) async fn held(engine: &Engine) -> Result<Vec<Held>, Error> {
    let config = engine.config();
    let reads = config.repositories.iter().map(|(name, options)| {
        let opened = Repository::open(&config, name, options);
        let seen = || async {
            let repository = opened.map_err(|error| chain(&error))?;
            let name = repository.name.clone();
            let catalogue = read(repository, None).await?;
            let backups = catalogue.entries().iter().map(|entry| Holding::of(&name, entry)).collect();
            Ok((backups, catalogue.unreadable.iter().map(|error| chain(error)).collect()))
        };
        let config = &config;
        async move {
            let seen = engine.held.ask(&engine.bulk, config, name, seen).await;
            (name.clone(), seen.unwrap_or_else(|| Err(silent())))
        }
    });
    let mut all = Vec::new();
    for (repository, read) in join_all(reads).await {
        let (away, backups, unreadable) = match read {
            Ok((backups, unreadable)) => (None, backups, unreadable),
            Err(reason) => (Some(reason), last_seen(engine, &repository).await?, Vec::new()),
        };
        all.push(Held { repository, away, backups, unreadable });
    }
    Ok(all)
}

/// The moments of each cluster that a restore can reach, by name, as they were at most [`SERVES`] ago, or since backups changed; one of
/// which that cannot be found out is left out.
pub(crate) async fn restorable(engine: &Engine) -> BTreeMap<String, Restorable> {
    let config = engine.config();
    let reads = config.clusters.keys().map(|name| {
        let (config, cluster) = (Arc::clone(&config), name.clone());
        async move {
            let (of, name) = (Arc::clone(&config), cluster.clone());
            let read = || async move {
                let found = Box::pin(reach(&of, &name)).await.ok()??;
                Some(Restorable { from: found.from, to: found.to })
            };
            let found = engine.reaches.ask(&engine.bulk, &config, &cluster, read).await.flatten();
            if found.is_none() {
                engine.reaches.forget(&cluster);
            }
            Some((cluster, found?))
        }
    });
    join_all(reads).await.into_iter().flatten().collect()
}
