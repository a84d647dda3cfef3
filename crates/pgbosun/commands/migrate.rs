//! `pgbosun migrate`: brings the schema `dba_ops` up to date, or makes it anew. The daemon does the first too, where its role may.

use crate::{exit::Exit, local::Context, output};
use anyhow::Context as _;
use pgbosun_postgres::{Conninfo, Server, SessionSettings};
use std::time::Duration;

/// Migrates.
///
/// # Errors
/// Where there is no history database, or it refuses.
pub async fn run(context: &Context, rebuild: bool) -> anyhow::Result<u8> {
    let Some(connection) = &context.config.history.connection else {
        return Err(Exit::refused("there is nothing to migrate: history.connection is not set"));
    };
    let conninfo = Conninfo::parse(connection)?.with_password(context.config.history.password.clone());
    let server = Server {
        conninfo,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(600),
        lock_timeout: Duration::from_secs(60),
        session: SessionSettings::Ours,
    };
    if rebuild {
        let aside = pgbosun_history::rebuild(&server).await.context("make dba_ops anew")?;
        say!(
            "{} schema dba_ops on {}; what was left of it is {aside}. A daemon at work fills the new one within minutes with what its \
             journal has. Give others their grants again, and look whether you miss older rows before you drop {aside}",
            output::green("made anew:"),
            server.conninfo
        );
        return Ok(0);
    }
    let count = pgbosun_history::migrate(&server).await.context("bring dba_ops up to date")?;
    say!("{} schema dba_ops on {} ({count} migrations)", output::green("up to date:"), server.conninfo);
    Ok(0)
}
