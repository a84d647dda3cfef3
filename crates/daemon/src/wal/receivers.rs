//! The receivers of WAL: one supervised task a cluster that asks for it, begun anew whenever it breaks.

use super::repositories;
use crate::{engine::Engine, error::Error};
use pgbosun_backup::wal::{Lag, Pusher, Receive, system_id_of};
use pgbosun_core::config::Config;
use pgbosun_postgres::Server;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The first pause after a receiver broke; it doubles up to a minute.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the receivers of all clusters until the daemon stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut receivers = JoinSet::new();
    for (name, _) in engine.config().clusters.iter().filter(|(_, cluster)| cluster.receive_wal) {
        let (engine, name) = (Arc::clone(&engine), name.clone());
        let bulk = engine.bulk.clone();
        receivers.spawn_on(supervise(engine, name), &bulk);
    }
    engine.stop.cancelled().await;
    while receivers.join_next().await.is_some() {}
}

async fn supervise(engine: Arc<Engine>, cluster: String) {
    let mut pause = PAUSE;
    while !engine.stop.is_cancelled() {
        let begun = std::time::Instant::now();
        let config = engine.config();
        if let Err(error) = receive_once(&config, &cluster, &engine.stop).await {
            tracing::warn!(
                pgbosun_cluster = cluster,
                "receiving WAL broke off, again in {} s: {}",
                pause.as_secs(),
                crate::error::chain(&error)
            );
        }
        if begun.elapsed() > Duration::from_secs(60) {
            pause = PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
            () = engine.stop.cancelled() => return,
        }
    }
}

/// Receives the WAL of a cluster until it breaks or is told to stop.
///
/// # Errors
/// What broke it.
pub async fn receive_once(config: &Config, cluster: &str, cancel: &CancellationToken) -> Result<(), Error> {
    let Some(options) = config.clusters.get(cluster) else {
        return Err(Error::Refused(format!("no cluster {cluster} is configured")));
    };
    let server = Server::of(options)?;
    let system_id = system_id_of(&server, options.data_directory.as_deref()).await?;
    let pusher = Pusher::new(cluster, system_id, repositories(config, cluster)?);
    pusher.check_identity().await?;
    let receive = Receive {
        server,
        pusher,
        directory: config.spool_directory().join("receive").join(cluster),
        slot: options.receive_slot.clone(),
        slot_limit: options.slot_limit.as_u64(),
        lag: Arc::new(Lag::default()),
        cancel: cancel.clone(),
    };
    Ok(receive.run().await?)
}
