//! The live line by the servers that answer (C41).
//!
//! The live line is that of the highest timeline whose history is archived. A server that was promoted and has archived nothing yet, its
//! archiving being off or failing, would leave what its predecessor writes on looking live. So a backup and a restore bring what the
//! servers know into the archives, and everybody goes on asking the archives alone. Monitors write nothing there.

use crate::{Error, Primary};
use pgbosun_core::{human, wal::WalFile};
use pgbosun_postgres::{Server, replication::Replication};
use pgbosun_repository::{EncodedWal, Encoding, Repository, WalArchive};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Of the servers of a cluster that answer and take writes, the one that was promoted last.
pub async fn newest_primary(servers: &Server) -> Option<Primary> {
    crate::primaries(servers).await.into_iter().max_by_key(|primary| primary.timeline)
}

/// Brings the history of the newest primary's timeline into those archives that lack it. Where that fails it is logged: the caller's own
/// work is none the worse for it, nor does a server that hangs keep it waiting.
pub async fn follow_primary(servers: &Server, cluster: &str, repositories: &[Repository]) {
    let limit = servers.connect_timeout * 3;
    let follow = async {
        let Some(primary) = newest_primary(servers).await else { return };
        // The first timeline has no history.
        for repository in repositories.iter().filter(|_| primary.timeline > 1) {
            tell(&primary, cluster, repository, bring(&primary, cluster, repository).await);
        }
    };
    if tokio::time::timeout(limit, follow).await.is_err() {
        tracing::warn!(cluster, "the server did not report its timeline within {limit:?}");
    }
}

fn tell(primary: &Primary, cluster: &str, repository: &Repository, brought: Result<bool, Error>) {
    let (Primary { host, timeline, .. }, repository) = (primary, &repository.name);
    match brought {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            cluster,
            repository,
            "the archive did not know timeline {timeline} of {host}; its history is archived now"
        ),
        Err(error) => tracing::warn!(
            cluster,
            repository,
            "the history of timeline {timeline} of {host} could not be archived: {}",
            human::chain(&error)
        ),
    }
}

/// Returns whether the archive learned anything. One that was never begun is left so.
async fn bring(primary: &Primary, cluster: &str, repository: &Repository) -> Result<bool, Error> {
    let Primary { server, timeline, .. } = primary;
    let archive = WalArchive::new(repository, cluster, &server.system_id().await?);
    let file = WalFile::History(*timeline);
    // By its name: whether this host can read it does not matter.
    if !archive.is_begun().await? || archive.find(&file).await?.is_some() {
        return Ok(false);
    }
    let mut connection = Replication::connect(&server.conninfo, server.connect_timeout).await?;
    let (_, history) = connection.timeline_history(*timeline).await?;
    repository.check_signing()?;
    let (encoding, frames) = (Encoding::of(&repository.options), Arc::default());
    let sha256 = hex::encode(Sha256::digest(&history));
    let encoded = Box::pin(EncodedWal::of(&encoding, &frames, &file, &sha256, &history)).await?;
    Ok(archive.put(&file, &encoded).await?)
}
