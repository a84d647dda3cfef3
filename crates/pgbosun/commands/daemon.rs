//! `pgbosun daemon`: what the unit starts.

use crate::{cli::Cli, local};
use pgbosun_core::config::Loaded;

/// Runs the daemon in the foreground.
///
/// # Errors
/// What keeps it from starting.
pub fn run(cli: &Cli, loaded: Loaded) -> anyhow::Result<u8> {
    let bulk = local::bulk()?;
    let runtime = crate::runtime()?;
    runtime.block_on(Box::pin(pgbosun_daemon::run(cli.config.clone(), loaded, bulk.handle().clone())))?;
    // A blocking read that hangs must not hold the exit.
    bulk.shutdown_background();
    runtime.shutdown_background();
    Ok(0)
}
