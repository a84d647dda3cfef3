//! What the repositories hold (C35): each says so itself; for one that cannot be read history tells what it held when it was last seen,
//! marked so. `status` and `backup list` both ask here.

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

/// How long a repository may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(10);

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
}

/// What every configured repository holds, in their order; each backup after those it follows.
pub(crate) async fn held(engine: &Engine) -> Result<Vec<Held>, Error> {
    let config = engine.config();
    let reads = config.repositories.iter().map(|(name, options)| {
        let (opened, limit) = (Repository::open(&config, name, options), PATIENCE);
        let read = engine.bulk.spawn(async move {
            let repository = opened.map_err(|error| chain(&error))?;
            let catalogue = tokio::time::timeout(limit, Catalogue::shown(&repository, None)).await;
            let catalogue = catalogue.map_err(|_| format!("it did not answer within {limit:?}"))?;
            let catalogue = catalogue.map_err(|error| chain(&error))?;
            Ok(catalogue.entries().iter().map(|entry| Holding::of(&repository.name, entry)).collect())
        });
        async move { (name.clone(), read.await.unwrap_or_else(|error| Err(error.to_string()))) }
    });
    let mut all = Vec::new();
    for (repository, read) in join_all(reads).await {
        let (away, backups) = match read {
            Ok(backups) => (None, backups),
            Err(reason) => (Some(reason), last_seen(engine, &repository).await?),
        };
        all.push(Held { repository, away, backups });
    }
    Ok(all)
}

/// The moments of each cluster that a restore can reach, by name; one of which that cannot be found out is left out.
pub(crate) async fn restorable(engine: &Engine) -> BTreeMap<String, Restorable> {
    let config = engine.config();
    let reads = config.clusters.keys().map(|name| {
        let (config, cluster) = (Arc::clone(&config), name.clone());
        engine.bulk.spawn(async move {
            let found = tokio::time::timeout(PATIENCE, Box::pin(reach(&config, &cluster))).await;
            let found = found.ok()?.ok()??;
            Some((cluster, Restorable { from: found.from, to: found.to }))
        })
    });
    join_all(reads).await.into_iter().filter_map(|read| read.ok().flatten()).collect()
}
