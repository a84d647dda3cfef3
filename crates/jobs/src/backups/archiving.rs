//! Whether a primary ought to archive (C30).

use super::{BackupPhysical, physical::WalFrom};
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
    for repository in repositories {
        if WalArchive::new(repository, cluster, system_id).is_begun().await.unwrap_or(false) {
            return Some("WAL was archived before");
        }
    }
    let promises = |job: BackupPhysical| {
        matches!(job.wal, WalFrom::Archive) || job.retention.is_some_and(|rule| rule.wal_days.is_some())
    };
    let promised = config.options_of::<BackupPhysical>(cluster).any(promises);
    promised.then_some("a backup job promises recovery to any moment (wal-days, or wal = \"archive\")")
}
