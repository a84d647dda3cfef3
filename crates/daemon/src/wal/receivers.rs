//! The receivers of WAL: one supervised task a cluster that asks for it, begun anew whenever it breaks.

use super::repositories;
use crate::{api, engine::Engine, error::Error};
use pgbosun_backup::wal::{Lag, Pusher, Receive, system_id_of};
use pgbosun_core::config::Config;
use pgbosun_postgres::Server;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
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

/// How the receivers stand, by cluster.
#[derive(Debug, Default)]
pub struct Receivers(Mutex<HashMap<String, Standing>>);

#[derive(Debug)]
struct Standing {
    lag: Arc<Lag>,
    trouble: Option<String>,
}

impl Receivers {
    /// How the receiver of a cluster stands.
    pub fn of(&self, cluster: &str) -> Option<api::Receiver> {
        let receivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Standing { lag, trouble } = receivers.get(cluster)?;
        let (flushed, server) = lag.positions();
        let behind_bytes = server.0.saturating_sub(flushed.0);
        Some(api::Receiver { flushed, behind_bytes, trouble: trouble.clone() })
    }

    fn set(&self, cluster: &str, lag: &Arc<Lag>, trouble: Option<String>) {
        let mut receivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receivers.insert(cluster.to_owned(), Standing { lag: Arc::clone(lag), trouble });
    }
}

async fn supervise(engine: Arc<Engine>, cluster: String) {
    let mut pause = PAUSE;
    let lag = Arc::new(Lag::default());
    while !engine.stop.is_cancelled() {
        let begun = std::time::Instant::now();
        let config = engine.config();
        engine.receivers.set(&cluster, &lag, None);
        if let Err(error) = receive_once(&config, &cluster, &lag, &engine.stop).await {
            let reason = crate::error::chain(&error);
            tracing::warn!(
                pgbosun_cluster = cluster,
                "receiving WAL failed, trying again in {} s: {reason}",
                pause.as_secs()
            );
            engine.receivers.set(&cluster, &lag, Some(reason));
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
pub async fn receive_once(
    config: &Config,
    cluster: &str,
    lag: &Arc<Lag>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
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
        lag: Arc::clone(lag),
        cancel: cancel.clone(),
    };
    Ok(receive.run().await?)
}
