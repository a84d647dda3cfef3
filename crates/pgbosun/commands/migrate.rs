//! `pgbosun migrate`: brings the schema `dba_ops` up to date, or makes it anew. The daemon does the first too, where its role may.

use crate::{exit::Exit, local::Context, output};
use anyhow::Context as _;
use pgbosun_daemon::history_server;
use pgbosun_postgres::Server;
use std::time::Duration;

/// Migrates.
///
/// # Errors
/// Where there is no history database, or it refuses.
pub async fn run(context: &Context, rebuild: bool) -> anyhow::Result<u8> {
    let Some(server) = history_server(&context.config)? else {
        return Err(Exit::refused("there is nothing to migrate: history.connection is not set"));
    };
    // Tables may be large, and somebody waits for it.
    let (statement_timeout, lock_timeout) = (Duration::from_secs(600), Duration::from_secs(60));
    let server = Server { statement_timeout, lock_timeout, ..server };
    if rebuild {
        let aside = pgbosun_history::rebuild(&server).await.context("rebuild dba_ops")?;
        if context.json {
            output::json(&serde_json::json!({"rebuilt": true, "set_aside": aside}))?;
            return Ok(0);
        }
        say!(
            "{} schema dba_ops on {}; what was left of the old one is now {aside}. A running daemon fills the new one from its \
             journal within minutes. Grant others their privileges again, and check whether you need older rows before you \
             drop {aside}",
            output::green("rebuilt:"),
            server.conninfo
        );
        return Ok(0);
    }
    let count = pgbosun_history::migrate(&server).await.context("bring dba_ops up to date")?;
    if context.json {
        output::json(&serde_json::json!({"rebuilt": false, "migrations": count}))?;
        return Ok(0);
    }
    say!("{} schema dba_ops on {} ({count} migrations)", output::green("up to date:"), server.conninfo);
    Ok(0)
}
