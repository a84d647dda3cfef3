//! Which moments of a cluster a restore can reach, as `restore` itself finds them: across timelines, up to the first gap.

use crate::JobError;
use pgbosun_backup::{Reachable, Request, reachable};
use pgbosun_core::config::Config;
use pgbosun_repository::Repository;

/// From all repositories; `None` where none has a good backup.
///
/// # Errors
/// What a repository answered.
pub async fn reach(config: &Config, cluster: &str) -> Result<Option<Reachable>, JobError> {
    let repositories = config.repositories.iter();
    let repositories =
        repositories.map(|(name, options)| Repository::open(config, name, options)).collect::<Result<_, _>>()?;
    let cluster = cluster.to_owned();
    let request =
        Request { cluster, repositories, only: None, backup: None, target: None, timeline: None, exclusive: false };
    Ok(reachable(&request).await?)
}
