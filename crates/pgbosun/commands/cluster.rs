//! `pgbosun cluster`: what a cluster's name stands for in the repositories (C10).

use crate::{cli::ClusterCommand, local::Context, output::json};
use pgbosun_core::clock;
use pgbosun_history::Actor;
use pgbosun_postgres::Server;
use pgbosun_repository::Keep;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: ClusterCommand) -> anyhow::Result<u8> {
    let ClusterCommand::Accept { cluster, reason } = command;
    let cluster = context.cluster(Some(&cluster))?;
    let server = Server::of(&context.config.clusters[&cluster])?;
    let system_id = server.system_id().await?;
    let decision = Keep { by: Actor::own().name, at: clock::now(), reason };
    let mut accepted = Vec::new();
    for repository in context.repositories(None)? {
        repository.prepare().await?;
        repository.accept_system_id(&cluster, &system_id, &decision).await?;
        if !context.json {
            say!("{cluster} now stands for system identifier {system_id} in {}", repository.name);
        }
        accepted.push(repository.name.clone());
    }
    if context.json {
        json(&serde_json::json!({"cluster": cluster, "system_id": system_id, "repositories": accepted}))?;
    }
    Ok(0)
}
