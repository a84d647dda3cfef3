//! `pgbosun journal`: the way back from a journal that cannot be used.

use crate::{
    cli::JournalCommand,
    exit::Exit,
    local::Context,
    output::{green, json, yellow},
};
use pgbosun_core::human;
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
            Exit::refused("a daemon or another command is using the journal: stop it first (systemctl stop pgbosun)")
        }
        error => error.into(),
    })?;
    let instance = known_instance(directory);
    let aside = set_aside(directory)?;
    let journal = Journal::open_as(directory, instance.unwrap_or_else(Uuid::now_v7)).await?;
    let path = directory.join("journal.sqlite");
    let server = history_server(&context.config)?;
    let refilled = match (&server, instance) {
        (Some(server), Some(_)) => Some(refill(&journal, server).await.map_err(|error| chain(&error))),
        _ => None,
    };
    if context.json {
        json(&serde_json::json!({
            "journal": path.display().to_string(), "set_aside": aside.as_ref().map(|path| path.display().to_string()), "rows": refilled.as_ref().and_then(|rows| rows.as_ref().ok()),
            "error": refilled.as_ref().and_then(|rows| rows.as_ref().err()),
        }))?;
        return Ok(0);
    }
    match aside {
        Some(aside) => say!("{} {}", green("set aside:"), aside.display()),
        None => say!("{} there was no journal in {}", yellow("note:"), directory.display()),
    }
    say!("{} {}", green("created:"), path.display());
    match (refilled, server) {
        (Some(Ok(rows)), Some(server)) => {
            let rows = human::count(rows, "row");
            say!("{} {rows} of history from {}", green("refilled:"), server.conninfo);
        }
        (Some(Err(error)), _) => say!("{} {error}", yellow("history could not be copied back from dba_ops:")),
        (_, None) => say!("{} no history database is configured: history starts empty", yellow("note:")),
        _ => say!("{} it is unknown which installation this was: history starts empty", yellow("note:")),
    }
    say!("now start the daemon: systemctl start pgbosun. It finds the backups in the repositories.");
    Ok(0)
}
