//! `pgbosun metrics`: figures for machines, for whom no scrape reaches the daemon (a textfile collector, a script).

use crate::{console, local::Context, output::json};
use pgbosun_daemon::{Summary, metrics_text, summary};

/// Prints them.
///
/// # Errors
/// Where neither daemon nor journal can be asked.
pub async fn run(context: &Context) -> anyhow::Result<u8> {
    match (context.daemon().await?, context.json) {
        (Some(daemon), true) => json(&daemon.get::<Summary>("/summary").await?)?,
        (Some(daemon), false) => console::exact(&daemon.text("/metrics").await?),
        (None, true) => json(&summary(&context.offline().await?.engine).await?)?,
        (None, false) => console::exact(&metrics_text(&context.offline().await?.engine).await?),
    }
    Ok(0)
}
