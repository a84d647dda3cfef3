//! `pgbosun wal`: what PostgreSQL calls to archive and to recover, and what lies in the archive.

mod fetch;
mod list;
mod push;

pub use fetch::nobody_knows;

use super::restore::mapping;
use crate::{cli::WalCommand, exit::Exit, local::Context};
use pgbosun_backup::wal::Confinement;
use std::path::{Path, PathBuf};

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: WalCommand) -> anyhow::Result<u8> {
    match command {
        WalCommand::Push { path, cluster } => push::run(context, &path, cluster.as_deref()).await,
        WalCommand::Fetch { name, path, cluster, repository, confined, without_limits, until, tablespace, ahead } => {
            let moved = tablespace.iter().map(|pair| mapping(pair)).collect::<anyhow::Result<_>>()?;
            let confinement = Confinement { places: confined, settings: without_limits || confined, moved, until };
            let fetch = fetch::Arguments { name, path, cluster, repository, confinement };
            if ahead { fetch::ahead(context, fetch).await } else { Ok(fetch::run(context, fetch).await) }
        }
        WalCommand::List { cluster, repository } => list::run(context, cluster.as_deref(), repository.as_deref()).await,
        WalCommand::Receive { cluster } => push::receive(context, cluster.as_deref()).await,
    }
}

/// The data directory a command of PostgreSQL's runs in, and the path it was given within it.
fn data_directory(path: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let here = std::env::current_dir()?;
    let absolute = here.join(path);
    let beside = absolute.parent().and_then(Path::parent).map(Path::to_owned);
    // PostgreSQL runs its commands in the data directory; by hand a path within one will do, and one that has lost all but its WAL.
    let in_wal = absolute.parent().is_some_and(|directory| directory.ends_with("pg_wal"));
    let left = beside.clone().filter(|_| in_wal);
    let found = [Some(here), beside].into_iter().flatten().find(|place| place.join("global/pg_control").exists());
    match found.or(left) {
        Some(directory) => Ok((directory, absolute)),
        None => Err(Exit::refused(format!(
            "{} is not in a data directory: run this in one, as PostgreSQL does, or name a file in its pg_wal",
            absolute.display()
        ))),
    }
}

/// The cluster a command of PostgreSQL's is about.
fn cluster_of(context: &Context, named: Option<&str>, data_directory: &Path) -> anyhow::Result<String> {
    if named.is_none() {
        let same = |known: &PathBuf| known.canonicalize().ok() == data_directory.canonicalize().ok();
        let mut clusters = context.config.clusters.iter();
        let fitting = clusters.find(|(_, cluster)| cluster.data_directory.as_ref().is_some_and(same));
        if let Some((name, _)) = fitting {
            return Ok(name.clone());
        }
    }
    context.cluster(named)
}
