//! `pgbosun wal push`: through the daemon, which pushes ahead in parallel, or by itself where there is none.
//!
//! C3: exit codes stay between 1 and 125, so that PostgreSQL records a failure and tries again.

use super::{cluster_of, data_directory};
use crate::{exit::Exit, local::Context};
use pgbosun_backup::wal::Pushed;
use pgbosun_daemon::{
    api::PushRequest,
    wal::{pusher, receive_once},
};
use std::{path::Path, time::Duration};

/// How long the daemon may take with one file; it answers when the file is durable, or when that failed.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How long the daemon may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// Archives one file.
///
/// # Errors
/// Where it is not durable everywhere it must be.
pub async fn run(context: &Context, path: &Path, cluster: Option<&str>) -> anyhow::Result<u8> {
    let (data_directory, path) = data_directory(path)?;
    let cluster = cluster_of(context, cluster, &data_directory)?;
    let request = PushRequest { cluster: cluster.clone(), data_directory: data_directory.clone(), path: path.clone() };
    match context.daemon().await {
        // C1: a daemon that hangs must not hold up archiving, which nobody would be told.
        Ok(Some(daemon)) if !daemon.answers(ANSWER).await => {
            tracing::warn!("the daemon did not answer within {ANSWER:?}, continuing without it");
        }
        Ok(Some(daemon)) => match daemon.ask(PATIENCE, "/wal/push", &request).await {
            Ok(pushed) => return Ok(tell(&pushed)),
            // Its own answer counts; where it did not answer, the file is pushed from here.
            Err(error) if error.downcast_ref::<Exit>().is_some() => return Err(error),
            Err(error) => tracing::info!("the connection to the daemon broke, continuing without it: {error:#}"),
        },
        Ok(None) => {}
        Err(error) => tracing::info!("continuing without the daemon: {error:#}"),
    }
    let pusher = pusher(&context.config, &cluster, &data_directory)?;
    let pushed = context
        .bulk
        .spawn(async move {
            pusher.check_identity().await?;
            let pushed = pusher.push(&path).await?;
            // A repository that is back gets a little of what waited for it; the daemon brings the rest.
            pusher.drain(4).await;
            Ok::<_, pgbosun_backup::Error>(pushed)
        })
        .await??;
    Ok(tell(&pushed))
}

fn tell(pushed: &Pushed) -> u8 {
    for repository in &pushed.spooled {
        tell!("pgbosun: {repository} did not accept the file: it is waiting in the spool");
    }
    for repository in &pushed.left_out {
        tell!("pgbosun: neither {repository} nor its spool accepted the file: it will be missing there");
    }
    0
}

/// Receives until it is told to stop.
///
/// # Errors
/// Where the server refuses.
pub async fn receive(context: &Context, cluster: Option<&str>) -> anyhow::Result<u8> {
    let cluster = context.cluster(cluster)?;
    if context.daemon().await?.is_some() && context.config.clusters[&cluster].receive_wal {
        return Err(Exit::refused(format!("the daemon is already receiving the WAL of {cluster} (receive-wal)")));
    }
    let config = context.config.clone();
    let cancel = tokio_util::sync::CancellationToken::new();
    let (token, stop) = (cancel.clone(), crate::commands::backup::stop_signal());
    let mut work =
        context.bulk.spawn(async move { receive_once(&config, &cluster, &Default::default(), &token).await });
    tokio::select! {
        done = &mut work => done??,
        () = stop => {
            cancel.cancel();
            work.await??;
        }
    }
    Ok(0)
}
