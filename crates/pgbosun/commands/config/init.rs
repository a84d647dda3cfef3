//! `pgbosun config init`: a commented configuration for the cluster found on this machine.
//!
//! Invariant: a configuration is not touched; only a file in which everything is commented out, as a package brings it, is replaced.

mod found;

use crate::{exit::Exit, output};
use anyhow::Context;
pub use found::service;
use found::{Archiving, Cluster, Settings};
use nix::unistd::{geteuid, getuid};
use std::{
    fs,
    io::{ErrorKind, Read, Seek, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    },
    path::Path,
};

/// Writes the configuration, and with `archive` has the server archive its WAL.
///
/// # Errors
/// Where the file exists or cannot be written; where archiving was asked for and cannot be set up.
pub fn init(output: &Path, data_directory: Option<&Path>, archive: bool) -> anyhow::Result<u8> {
    let clusters = found::clusters(data_directory);
    let cluster = clusters.first();
    let mut file = if output.as_os_str() == "-" { None } else { Some(open(output, cluster)?) };
    // As its owner: peer authentication lets nobody else in, and root runs no more than it must.
    if let Some(cluster) = cluster {
        crate::local::become_owner(&cluster.data_directory, None)?;
    }
    let settings = cluster.map(|cluster| found::ask(cluster, archive)).transpose()?.flatten();
    let text = render(cluster, settings.as_ref());
    let Some(file) = &mut file else {
        say!("{}", text.trim_end());
        return Ok(0);
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {}", output.display()))?;
    tell(output, &clusters, settings.as_ref());
    Ok(0)
}

/// The file to write. Made by root it can be read by the group of the cluster's owner, under whom the daemon runs.
fn open(output: &Path, cluster: Option<&Cluster>) -> anyhow::Result<fs::File> {
    let write = || format!("write {}", output.display());
    let new = fs::File::options().write(true).create_new(true).mode(0o640).open(output);
    let file = match new {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => empty(output)?,
        Err(error) => return Err(error).with_context(write),
    };
    if let (true, Some(cluster)) = (geteuid().is_root(), cluster) {
        let group = fs::metadata(&cluster.data_directory).with_context(write)?.gid();
        fchown(file.as_fd(), Some(getuid().as_raw()), Some(group)).with_context(write)?;
    }
    Ok(file)
}

/// A file in which nothing is configured, emptied.
fn empty(output: &Path) -> anyhow::Result<fs::File> {
    let write = || format!("write {}", output.display());
    let refused = || Exit::refused(format!("{} exists and is not touched; move it away first", output.display()));
    if !fs::symlink_metadata(output).with_context(write)?.is_file() {
        return Err(refused());
    }
    let mut file = fs::File::options().read(true).write(true).open(output).with_context(write)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).with_context(write)?;
    let is_comment = |line: &[u8]| matches!(line.trim_ascii_start().first(), None | Some(b'#'));
    if !text.split(|byte| *byte == b'\n').all(is_comment) {
        return Err(refused());
    }
    file.set_len(0).and_then(|()| file.rewind()).with_context(write)?;
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
            "also running: {} (--data-directory, or a section [clusters.NAME] of its own)",
            other.data_directory.display()
        );
    }
    if let (Some(cluster), Some(settings)) = (clusters.first(), settings) {
        tell_archiving(cluster, &settings.archiving);
    }
    say!("Look through it, then: pgbosun config check && systemctl enable --now pgbosun");
}

fn tell_archiving(cluster: &Cluster, archiving: &Archiving) {
    match archiving {
        Archiving::Ours => {}
        Archiving::SetNow => {
            say!(
                "The server is set to archive its WAL with \"pgbosun wal push\" from its next restart on:\n  {}",
                cluster.restart()
            );
        }
        Archiving::Others(command) => {
            say!(
                "The server archives its WAL by other means: archive_command = {command}\nOnly what \"pgbosun wal push\" archives can be \
                 recovered by pgbosun: docs/migrating.md says how to move."
            );
        }
        Archiving::Off => {
            say!(
                "The server archives no WAL: without it a restore ends with the backup. To archive, so that any moment can be restored:\n  \
                 sudo -u postgres psql -p {} -c \"alter system set archive_mode = on\" \\\n    \
                 -c \"alter system set archive_command = '{}'\" \\\n    -c \"alter system set archive_timeout = '5min'\"\n  {}",
                cluster.port,
                found::ARCHIVE_COMMAND.replace('"', "\\\""),
                cluster.restart()
            );
        }
    }
}
