//! `pgbosun config init`: a commented configuration for the cluster found on this machine.
//!
//! Invariant: a configuration is not touched; only a file in which everything is commented out, as a package brings it, is replaced.

mod found;

use crate::{
    exit::{Exit, describe},
    output,
};
use anyhow::Context;
pub use found::service;
use found::{Archiving, Cluster, Settings};
use nix::{
    fcntl::OFlag,
    unistd::{User, geteuid, getuid},
};
use std::{
    fs,
    io::{ErrorKind, Read, Seek, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::Path,
};

/// Writes the configuration, and with `archive` has the server archive its WAL, once it is written.
///
/// # Errors
/// Where the file exists or cannot be written; where archiving was asked for and cannot be set up.
pub fn init(output: &Path, data_directory: Option<&Path>, archive: bool) -> anyhow::Result<u8> {
    let to_file = output.as_os_str() != "-";
    if archive && !to_file {
        return Err(Exit::usage("--archive needs --output: without a configuration file the server could not archive"));
    }
    let clusters = found::clusters(data_directory);
    let cluster = clusters.first();
    match (cluster, data_directory) {
        (None, Some(directory)) => {
            return Err(Exit::refused(format!("--data-directory {}: no server runs there", directory.display())));
        }
        (None, None) if archive => {
            return Err(Exit::refused(
                "--archive: no running cluster was found; use --data-directory to say where one is",
            ));
        }
        _ => {}
    }
    let mut file = if to_file { Some(open(output, cluster)?) } else { None };
    let mut settings = None;
    if let Some(cluster) = cluster {
        // As its owner: peer authentication lets nobody else in, and root runs no more than it must.
        crate::local::become_owner(&cluster.data_directory, None)?;
        match found::ask(cluster) {
            Ok(answer) => settings = Some(answer),
            Err(error) if archive => return Err(error.context("ask the server whether it archives")),
            Err(error) => {
                let warning = output::yellow("warning:");
                tell!("{warning} could not ask the server about its log and its archiving: {}", describe(&error));
            }
        }
    }
    if let (true, Some(Archiving::Others(command))) = (archive, settings.as_ref().map(|settings| &settings.archiving)) {
        return Err(Exit::refused(format!(
            "the server already archives its WAL, or is set up to, with {command}: see docs/migrating.md for how to switch"
        )));
    }
    write(file.as_mut(), output, &render(cluster, settings.as_ref()))?;
    if let (true, Some(cluster), Some(settings)) = (archive, cluster, &mut settings)
        && settings.archiving == Archiving::Off
    {
        found::archive(cluster).context("set up archiving on the server")?;
        settings.archiving = Archiving::SetNow;
    }
    if to_file {
        tell(output, &clusters, settings.as_ref());
    }
    Ok(0)
}

fn write(file: Option<&mut fs::File>, output: &Path, text: &str) -> anyhow::Result<()> {
    let Some(file) = file else {
        say!("{}", text.trim_end());
        return Ok(());
    };
    let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
    written.with_context(|| format!("write {}", output.display()))
}

/// The file to write. Made by root it can be read by the group of the cluster's owner, under whom the daemon runs.
fn open(output: &Path, cluster: Option<&Cluster>) -> anyhow::Result<fs::File> {
    let write = || format!("write {}", output.display());
    let new = fs::File::options().write(true).create_new(true).mode(0o640).open(output);
    let file = match new {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => unwritten(output)?,
        Err(error) => return Err(error).with_context(write),
    };
    if geteuid().is_root() {
        let group = match cluster {
            Some(cluster) => fs::metadata(&cluster.data_directory).with_context(write)?.gid(),
            None => User::from_name("postgres").ok().flatten().map_or(0, |user| user.gid.as_raw()),
        };
        fchown(file.as_fd(), Some(getuid().as_raw()), Some(group)).with_context(write)?;
        file.set_permissions(fs::Permissions::from_mode(0o640)).with_context(write)?;
    }
    Ok(file)
}

/// A file in which nothing is configured.
fn unwritten(output: &Path) -> anyhow::Result<fs::File> {
    let write = || format!("write {}", output.display());
    let refused =
        || Exit::refused(format!("{} already exists and is left alone; move it away first", output.display()));
    let mut open = fs::File::options();
    open.read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits());
    let mut file = open.open(output).map_err(|_| refused())?;
    let there = file.metadata().with_context(write)?;
    if !there.is_file() || there.uid() != geteuid().as_raw() {
        return Err(refused());
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).with_context(write)?;
    let is_comment = |line: &[u8]| matches!(line.trim_ascii_start().first(), None | Some(b'#'));
    if !text.split(|byte| *byte == b'\n').all(is_comment) {
        return Err(refused());
    }
    file.rewind().with_context(write)?;
    Ok(file)
}

fn render(cluster: Option<&Cluster>, settings: Option<&Settings>) -> String {
    let zone = fs::read_link("/etc/localtime").ok().and_then(|link| {
        let name = link.to_string_lossy().split("zoneinfo/").nth(1)?.to_owned();
        name.parse::<chrono_tz::Tz>().ok().map(|_| name)
    });
    let (connection, data) = match cluster {
        Some(cluster) => (cluster.connection(), format!("data-directory = {:?}", cluster.data_directory)),
        None => (
            "host=/var/run/postgresql user=postgres".to_owned(),
            "# data-directory = \"/var/lib/postgresql/15/main\"".to_owned(),
        ),
    };
    let log = match found::log_directory(cluster, settings) {
        Some(directory) => format!("log-directory = {directory:?}"),
        None => "# log-directory = \"/var/log/postgresql\"".to_owned(),
    };
    include_str!("../../../../etc/pgbosun.toml")
        .replace("\"Europe/Berlin\"", &format!("{:?}", zone.as_deref().unwrap_or("UTC")))
        .replacen("host=/var/run/postgresql user=postgres", &connection, 1)
        .replace("data-directory = \"/var/lib/postgresql/15/main\"", &data)
        .replace("log-directory = \"/var/log/postgresql\"", &log)
}

fn tell(output: &Path, clusters: &[Cluster], settings: Option<&Settings>) {
    let what = clusters.first().map_or_else(
        || "no running cluster was found: fill in [clusters.main]".to_owned(),
        |cluster| format!("for the cluster in {}", cluster.data_directory.display()),
    );
    say!("{} {} ({what})", output::green("wrote"), output.display());
    for other in clusters.iter().skip(1) {
        say!(
            "also running: {} (choose it with --data-directory, or add a section [clusters.NAME] for it)",
            other.data_directory.display()
        );
    }
    if let (Some(cluster), Some(settings)) = (clusters.first(), settings) {
        tell_archiving(cluster, &settings.archiving);
    }
    say!("Review it, then run: pgbosun config check && systemctl enable --now pgbosun");
}

fn tell_archiving(cluster: &Cluster, archiving: &Archiving) {
    match archiving {
        Archiving::Ours => {}
        Archiving::SetNow => {
            say!(
                "The server will archive its WAL with \"pgbosun wal push\" from its next restart on:\n  {}",
                cluster.restart()
            );
        }
        Archiving::Others(command) => {
            say!(
                "The server archives its WAL by other means: archive_command = {command}\npgbosun can recover only what \
                 \"pgbosun wal push\" archived: see docs/migrating.md for how to switch."
            );
        }
        Archiving::Off => {
            say!(
                "The server archives no WAL, so a restore can only reach the end of a backup. To be able to restore \
                 to any point in time, set up archiving:\n  \
                 sudo -u postgres psql -p {} -c \"alter system set archive_mode = on\" \\\n    \
                 -c \"alter system set archive_command = '{}'\" \\\n    -c \"alter system set archive_timeout = '5min'\"\n  {}",
                cluster.port,
                found::ARCHIVE_COMMAND.replace('"', "\\\""),
                cluster.restart()
            );
        }
    }
}
