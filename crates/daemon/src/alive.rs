//! The dead man's switch: an address that is fetched while the daemon is well. Whoever watches it notices when the daemon,
//! the machine or its network is gone, which nobody here could tell.

use crate::{engine::Engine, error::chain, heartbeats::Observer};
use pgbosun_core::config::Daemon;
use std::{sync::Arc, time::Duration};

/// How long one fetch may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often an installation without an address looks whether a reload gave it one.
const IDLE: Duration = Duration::from_secs(5);
/// The setting that is written to see whether the journal takes it.
const ALIVE: &str = "alive";

/// Fetches until the daemon stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut observer = Observer::default();
    loop {
        let Daemon { alive_url, alive_every, .. } = engine.config().daemon.clone();
        let pause = if alive_url.is_some() { alive_every } else { IDLE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = engine.stop.cancelled() => return,
        }
        if let Some(url) = alive_url {
            match trouble(&engine, &mut observer).await {
                Some(trouble) => tracing::error!("alive-url was not fetched: {trouble}"),
                None => {
                    if let Err(error) = pgbosun_notify::fetch(&url, LIMIT).await {
                        tracing::warn!("alive-url: {}", chain(&error));
                    }
                }
            }
        }
    }
}

/// Why the daemon is not well, where it is not: a part stands still, or the journal takes nothing.
async fn trouble(engine: &Engine, observer: &mut Observer) -> Option<String> {
    let silent = observer.silent(&engine.heartbeats);
    if !silent.is_empty() {
        return Some(format!("these parts made no progress since the last time: {silent:?}"));
    }
    engine.journal.set_setting(ALIVE, Some(&engine.now().to_rfc3339())).await.err().map(|error| chain(&error))
}
