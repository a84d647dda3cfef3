//! What the backup jobs of a cluster need of its servers: archiving (C30), replication.

use super::{
    BackupPhysical,
    physical::{Source, WalFrom},
};
use pgbosun_core::config::Config;
use pgbosun_repository::{Repository, WalArchive};

/// Why a primary that archives nothing ought to: it archived before, or a backup job promises recovery to any moment. A repository
/// that does not answer says nothing about it, which its own monitors tell.
pub async fn ought_to_archive(
    config: &Config,
    repositories: &[Repository],
    cluster: &str,
    system_id: &str,
) -> Option<&'static str> {
    // The daemon brings it there itself.
    if receives(config, cluster) {
        return None;
    }
    for repository in repositories {
        if WalArchive::new(repository, cluster, system_id).is_begun().await.unwrap_or(false) {
            return Some("WAL was archived before");
        }
    }
    let promises = |job: BackupPhysical| {
        matches!(job.wal, WalFrom::Archive) || job.retention.is_some_and(|rule| rule.wal_days.is_some())
    };
    let promised = config.options_of::<BackupPhysical>(cluster).any(promises);
    promised.then_some("a backup job promises point-in-time recovery (wal-days, or wal = \"archive\")")
}

/// Whether the daemon receives the cluster's WAL.
fn receives(config: &Config, cluster: &str) -> bool {
    config.clusters.get(cluster).is_some_and(|cluster| cluster.receive_wal)
}

/// Whether something that is configured needs a replication connection. Backup jobs do, unless they may read the files, find their WAL
/// in the archive, and are no increments.
pub fn needs_replication(config: &Config, cluster: &str) -> bool {
    let mut jobs = config.options_of::<BackupPhysical>(cluster).peekable();
    let needs = |job: BackupPhysical| job.wal == WalFrom::Stream || job.source == Source::Stream || job.incremental;
    receives(config, cluster) || jobs.peek().is_none() || jobs.any(needs)
}
