//! WAL in the daemon: archiving for `archive_command`, ahead of PostgreSQL and in parallel; what waits in the spools; and
//! the receivers.

mod ahead;
mod receivers;

pub use receivers::{Receivers, receive_once};

pub(crate) use ahead::Archiver;
pub(crate) use receivers::run as receive;

use crate::{engine::Engine, error::Error};
use pgbosun_backup::wal::{Pusher, Spool, system_identifier};
use pgbosun_core::config::Config;
use pgbosun_repository::Repository;
use std::{path::Path, sync::Arc, time::Duration};

/// Where a cluster's WAL goes: required repositories must take it themselves, the others may be caught up later.
fn repositories(config: &Config, cluster: &str) -> Result<Vec<(Repository, Option<Spool>)>, Error> {
    let (directory, limit) = (config.spool_directory(), config.wal.spool_limit.as_u64());
    let chosen = config.wal_repositories(cluster);
    let opened = chosen.map(|(name, options)| {
        let repository = Repository::open(config, name, options)?;
        let spool = (!options.common.required).then(|| Spool::new(&directory, limit, &repository));
        Ok((repository, spool))
    });
    let repositories = opened.collect::<Result<Vec<_>, pgbosun_repository::Error>>()?;
    if repositories.is_empty() {
        return Err(Error::Refused("no repository is configured under [repositories.NAME]".into()));
    }
    Ok(repositories)
}

/// What archives the WAL of a cluster whose data directory is on this machine.
///
/// # Errors
/// Where the configuration or `pg_control` does not allow it.
pub fn pusher(config: &Config, cluster: &str, data_directory: &Path) -> Result<Pusher, Error> {
    let system_id = system_identifier(data_directory)?;
    Ok(Pusher::new(cluster, system_id, repositories(config, cluster)?))
}

/// Brings what waits in the spools on its way, until the daemon stops.
pub(crate) async fn drain(engine: Arc<Engine>) {
    const PAUSE: Duration = Duration::from_secs(10);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = engine.stop.cancelled() => return,
        }
        let config = engine.config();
        let (directory, limit) = (config.spool_directory(), config.wal.spool_limit.as_u64());
        for (name, options) in config.repositories.iter().filter(|(_, options)| !options.common.required) {
            if !directory.join(name).is_dir() {
                continue;
            }
            let Ok(repository) = Repository::open(&config, name, options) else { continue };
            let spool = Spool::new(&directory, limit, &repository);
            let drained = engine.bulk.spawn(async move { spool.drain(usize::MAX).await }).await;
            match drained {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(count)) => {
                    let files = pgbosun_core::human::count(count, "WAL file");
                    tracing::info!(repository = name, "{files} left the spool");
                }
                Ok(Err(error)) => {
                    tracing::debug!(repository = name, "still unavailable: {}", crate::error::chain(&error))
                }
            }
        }
    }
}
