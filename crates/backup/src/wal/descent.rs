//! The live line by the servers that answer (C41).
//!
//! The live line is that of the highest timeline whose history is archived. A server that was promoted and has archived nothing yet, its
//! archiving being off or failing, would leave what its predecessor writes on looking live. So whoever asks the servers brings what
//! they know into the archives, and everybody goes on asking the archives alone.

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

/// Brings the history of a primary's timeline into those archives that lack it. Where that fails it is logged: the caller's own work is
/// none the worse for it.
pub async fn bring_history(primary: &Primary, cluster: &str, repositories: &[Repository]) {
    let Primary { server, host, timeline } = primary;
    // The first timeline has no history.
    for repository in repositories.iter().filter(|_| *timeline > 1) {
        match bring(server, *timeline, cluster, repository).await {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                cluster,
                repository = repository.name,
                "timeline {timeline} of {host} was not known to the archive; its history is archived now"
            ),
            Err(error) => tracing::warn!(
                cluster,
                repository = repository.name,
                "whether the archive knows timeline {timeline} of {host} cannot be said: {}",
                human::chain(&error)
            ),
        }
    }
}

/// Returns whether the archive learned anything. One that was never begun is left so.
async fn bring(server: &Server, timeline: u32, cluster: &str, repository: &Repository) -> Result<bool, Error> {
    let archive = WalArchive::new(repository, cluster, &server.system_id().await?);
    if !archive.is_begun().await? || archive.live_line().await?.live() >= timeline {
        return Ok(false);
    }
    let mut connection = Replication::connect(&server.conninfo, server.connect_timeout).await?;
    let (_, text) = connection.timeline_history(timeline).await?;
    repository.check_signing()?;
    let (file, sha256) = (WalFile::History(timeline), hex::encode(Sha256::digest(&text)));
    let encoding = Encoding::of(&repository.options);
    let frames = Arc::default();
    let encoded = Box::pin(EncodedWal::of(&encoding, &frames, &file, &sha256, text.as_bytes())).await?;
    Ok(archive.put(&file, &encoded).await?)
}
