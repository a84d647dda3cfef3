//! `pgbosun config init`: a commented configuration for the cluster found on this machine.

use crate::{exit::Exit, output};
use anyhow::Context;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A cluster as it lies on this machine.
struct Found {
    data_directory: PathBuf,
    socket_directory: PathBuf,
    port: u16,
}

/// Writes the configuration.
///
/// # Errors
/// Where the file exists or cannot be written.
pub fn init(output: &Path, data_directory: Option<&Path>) -> anyhow::Result<u8> {
    let found = find(data_directory);
    let text = render(found.as_ref());
    if output.as_os_str() == "-" {
        say!("{}", text.trim_end());
        return Ok(0);
    }
    let file = fs::File::options().write(true).create_new(true).mode(0o640).open(output);
    match file {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(|| format!("write {}", output.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Exit::refused(format!("{} exists and is not touched; move it away first", output.display())));
        }
        Err(error) => return Err(error).with_context(|| format!("write {}", output.display())),
    }
    let what = found.map_or_else(
        || "no running cluster was found: fill in [clusters.main]".to_owned(),
        |found| format!("for the cluster in {}", found.data_directory.display()),
    );
    say!("{} {} ({what})", output::green("wrote"), output.display());
    say!("Look through it, then: pgbosun config check && systemctl enable --now pgbosun");
    Ok(0)
}

/// The named cluster, or the first running one where Debian or Red Hat put it.
fn find(named: Option<&Path>) -> Option<Found> {
    let candidates: Vec<PathBuf> = match named {
        Some(directory) => vec![directory.to_owned()],
        None => {
            let versions = fs::read_dir("/var/lib/postgresql").into_iter().flatten().flatten();
            let clusters = versions.flat_map(|version| fs::read_dir(version.path()).into_iter().flatten().flatten());
            let mut all: Vec<_> = clusters.map(|cluster| cluster.path()).collect();
            all.extend((15..=19).map(|major| format!("/var/lib/pgsql/{major}/data").into()));
            all.sort();
            all.reverse();
            all
        }
    };
    candidates.into_iter().find_map(|data_directory| {
        // postmaster.pid: process, data directory, start, port, socket directory (PostgreSQL, pidfile.h).
        let text = fs::read_to_string(data_directory.join("postmaster.pid")).ok()?;
        let mut lines = text.lines().skip(3);
        let port = lines.next()?.trim().parse().ok()?;
        let socket_directory = lines.next()?.trim().into();
        Some(Found { data_directory, socket_directory, port })
    })
}

fn render(found: Option<&Found>) -> String {
    let zone = fs::read_link("/etc/localtime").ok().and_then(|link| {
        let name = link.to_string_lossy().split("zoneinfo/").nth(1)?.to_owned();
        name.parse::<chrono_tz::Tz>().ok().map(|_| name)
    });
    let (connection, data) = match found {
        Some(found) => {
            let port = if found.port == 5432 { String::new() } else { format!(" port={}", found.port) };
            (
                format!("host={}{port} user=postgres", found.socket_directory.display()),
                format!("data-directory = \"{}\"", found.data_directory.display()),
            )
        }
        None => (
            "host=/var/run/postgresql user=postgres".to_owned(),
            "# data-directory = \"/var/lib/postgresql/15/main\"".to_owned(),
        ),
    };
    include_str!("../../../../etc/pgbosun.toml")
        .replace("\"Europe/Berlin\"", &format!("{:?}", zone.as_deref().unwrap_or("UTC")))
        .replace("host=/var/run/postgresql user=postgres", &connection)
        .replace("data-directory = \"/var/lib/postgresql/15/main\"", &data)
}
