//! Users who may talk to the daemon and may not read its configuration: members of the control socket's group.
//!
//! Invariant: nothing of the configuration is guessed; what the daemon is not asked for is refused, with who may.

use crate::{
    cli::{BackupCommand, Cli, Command},
    client::Client,
    exit::Exit,
    local::Context,
};
use nix::unistd::{Uid, User};
use pgbosun_core::config::unread;
use std::{fs::File, io::ErrorKind::PermissionDenied, os::unix::fs::MetadataExt, path::Path};

/// Whether this user may not read the configuration.
pub fn is_one(config: &Path) -> bool {
    File::open(config).is_err_and(|error| error.kind() == PermissionDenied)
}

/// Whether a command asks the daemon alone.
pub const fn may(command: &Command) -> bool {
    matches!(
        command,
        Command::Status { .. }
            | Command::Check { here: false, .. }
            | Command::Schedule(_)
            | Command::Job { .. }
            | Command::Alert { .. }
            | Command::Metrics
            | Command::Backup { command: BackupCommand::Create { .. } }
    )
}

/// What is said of whatever needs the configuration.
pub fn refused(config: &Path, socket: &Path) -> anyhow::Error {
    let config = config.display();
    Exit::refused(format!(
        "this command needs to read {config}, which this user may not read: run it as {}",
        who_may(socket)
    ))
}

/// Root, and whose daemon it is.
fn who_may(socket: &Path) -> String {
    let owner = std::fs::metadata(socket).ok().and_then(|there| User::from_uid(Uid::from_raw(there.uid())).ok()?);
    match owner {
        Some(owner) if !owner.uid.is_root() => format!("root or {}", owner.name),
        Some(_) => "root".to_owned(),
        None => "root or the user of the daemon".to_owned(),
    }
}

/// What a command works with that asks the daemon alone.
///
/// # Errors
/// Where it needs more, or no daemon answers.
pub async fn context(cli: &Cli, bulk: tokio::runtime::Handle) -> anyhow::Result<Context> {
    let mut config = unread(&cli.config).ok_or_else(|| Exit::refused("the built-in defaults are invalid"))?;
    if let Some(socket) = &cli.socket {
        config.daemon.control_socket.clone_from(socket);
    }
    let socket = config.daemon.control_socket.clone();
    if !may(&cli.command) {
        return Err(refused(&cli.config, &socket));
    }
    let Some(daemon) = Client::find(&socket).await? else {
        return Err(Exit::refused(format!(
            "the daemon is not running (nothing answers on {}); without it, this command needs to read {}, which this user may not read: run it as {}, \
             or name the daemon's socket with --socket",
            socket.display(),
            cli.config.display(),
            who_may(&socket)
        )));
    };
    // A daemon of an earlier version does not know the question.
    config.daemon.time_zone = daemon.get("/time-zone").await.unwrap_or(config.daemon.time_zone);
    Ok(Context { config, json: cli.json, bulk, is_guest: true })
}
