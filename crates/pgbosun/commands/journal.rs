//! `pgbosun journal`: the way back from a journal that cannot be used.

use crate::{
    cli::JournalCommand,
    exit::Exit,
    local::Context,
    output::{green, yellow},
};
use pgbosun_daemon::{chain, history_server};
use pgbosun_history::{Journal, StateLock, known_instance, refill, set_aside};
use std::time::Duration;
use uuid::Uuid;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: JournalCommand) -> anyhow::Result<u8> {
    match command {
        JournalCommand::Renew => renew(context).await,
    }
}

async fn renew(context: &Context) -> anyhow::Result<u8> {
    let directory = &context.config.daemon.state_directory;
    let _lock = StateLock::wait(directory, Duration::from_secs(2)).await.map_err(|error| match error {
        pgbosun_history::Error::Locked { .. } => {
            Exit::refused("a daemon or another command works with the journal: stop it first (systemctl stop pgbosun)")
        }
        error => error.into(),
    })?;
    let instance = known_instance(directory);
    match set_aside(directory)? {
        Some(aside) => say!("{} {}", green("set aside:"), aside.display()),
        None => say!("{} there was no journal in {}", yellow("note:"), directory.display()),
    }
    let journal = Journal::open_as(directory, instance.unwrap_or_else(Uuid::now_v7)).await?;
    say!("{} {}", green("made anew:"), directory.join("journal.sqlite").display());
    match (history_server(&context.config)?, instance) {
        (Some(server), Some(_)) => match refill(&journal, &server).await {
            Ok(rows) => say!("{} {rows} rows of history from {}", green("filled again:"), server.conninfo),
            Err(error) => say!("{} {}", yellow("history is not given back by dba_ops:"), chain(&error)),
        },
        (None, _) => say!("{} no history database is configured: history begins anew", yellow("note:")),
        (_, None) => say!("{} nobody knows which installation this was: history begins anew", yellow("note:")),
    }
    say!("start the daemon: systemctl start pgbosun. It reads from the repositories which backups there are.");
    Ok(0)
}
