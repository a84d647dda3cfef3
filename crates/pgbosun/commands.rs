//! One file per subcommand.

mod alert;
mod backup;
mod check;
mod cluster;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod help;
mod job;
mod journal;
mod metrics;
mod migrate;
mod operator;
mod report;
pub mod restore;
mod restore_test;
mod schedule;
mod status;
pub mod wal;

use crate::{audit::Change, cli::Command, local::Context};

/// Runs a command that works with a valid configuration; returns the exit code.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(command: Command, context: Context) -> anyhow::Result<u8> {
    let Some(change) = Change::of(&command) else { return execute(command, &context).await };
    change.begin(&context).await;
    let done = execute(command, &context).await;
    change.end(&context, &done).await;
    done
}

async fn execute(command: Command, context: &Context) -> anyhow::Result<u8> {
    match command {
        Command::Status { watch: true } => status::watch(context).await,
        Command::Status { watch: false } => status::run(context).await,
        Command::Check { cluster, here } => check::run(context, cluster.as_deref(), here).await,
        Command::Metrics => metrics::run(context).await,
        Command::Schedule(arguments) => schedule::run(context, arguments).await,
        Command::Job { command } => job::run(context, command).await,
        Command::Backup { command } => Box::pin(backup::run(context, command)).await,
        Command::Restore { command } => Box::pin(restore::run(context, command)).await,
        Command::RestoreTest { cluster } => Box::pin(restore_test::run(context, cluster.as_deref())).await,
        Command::Wal { command } => Box::pin(wal::run(context, command)).await,
        Command::Cluster { command } => cluster::run(context, command).await,
        Command::Alert { command } => alert::run(context, command).await,
        Command::Journal { command } => journal::run(context, command).await,
        Command::Operator { command } => operator::run(context, command).await,
        Command::Report { command } => Box::pin(report::run(context, command)).await,
        Command::Migrate { rebuild } => migrate::run(context, rebuild).await,
        // Dispatched before, since they work without a valid configuration or outside this runtime.
        Command::Daemon
        | Command::Fence { .. }
        | Command::RecoveryEnded
        | Command::Config { .. }
        | Command::Demo { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(0),
    }
}
