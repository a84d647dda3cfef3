//! A restore on a machine that has nothing but the repository: its place is said on the command line, and the configuration is made here, since
//! the server needs one to fetch WAL while it recovers.
//!
//! Invariant: what is made lies beside the new data directory, open to nobody else, and goes through the same reading as any configuration: a
//! name in a repository that no configuration may have is refused there.

use crate::{cli::RestorePhysical, exit::Exit, output};
use anyhow::Context;
use nix::unistd::geteuid;
use pgbosun_core::publish::publish;
use pgbosun_repository::Repository;
use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What the repository is called in the configuration that is made.
const NAME: &str = "repository";

/// Whether `--repository` names a place rather than a configured repository.
pub fn is_place(repository: &str) -> bool {
    repository.contains('/')
}

/// Makes the configuration, and has the arguments name what it holds.
///
/// # Errors
/// Where the place cannot be read, or holds several clusters and none was named.
pub fn configure(arguments: &mut RestorePhysical) -> anyhow::Result<PathBuf> {
    let place = arguments.target.repository.clone().unwrap_or_default();
    let Some(to) = &arguments.to else {
        let words = "--verify-only needs a configuration in which the repository has a name; with a location, restore it: --to \
                     DIRECTORY";
        return Err(Exit::usage(words));
    };
    if geteuid().is_root() {
        return Err(Exit::refused(format!(
            "--to {0}: the directory it is in belongs to root, and PostgreSQL does not run as root: install -d -o postgres -g \
             postgres -m 700 {0}",
            to.display()
        )));
    }
    let section = section(&place, arguments)?;
    let to = std::path::absolute(to)?;
    // A server that recovers here has a configuration of such a restore already.
    if super::occupant(&to).is_some() && !arguments.force && !arguments.delta {
        return Err(Exit::refused(format!(
            "{} is not empty; use --delta or --force to replace what is there",
            to.display()
        )));
    }
    let (directory, is_new) = beside(&to)?;
    let made = made(&place, &section, &directory, arguments.target.cluster.as_deref());
    if made.is_err() && is_new {
        let _ = fs::remove_dir_all(&directory);
    }
    let (file, cluster) = made?;
    arguments.target.repository = Some(NAME.into());
    arguments.target.cluster = Some(cluster);
    let until = if arguments.standby { "" } else { "; delete it once recovery has ended" };
    tell!("{} {}: the server fetches WAL with it{until}", output::green("wrote"), file.display());
    Ok(file)
}

/// The configuration in its directory, once it is known whose backups are meant; and whose.
fn made(place: &str, section: &str, directory: &Path, named: Option<&str>) -> anyhow::Result<(PathBuf, String)> {
    let daemon = format!(
        "# Made by \"pgbosun restore physical --repository {}\": the server fetches WAL with it while it recovers.\n\
         [daemon]\nwatch = false\nmetrics-address = \"off\"\nstate-directory = {}\ncontrol-socket = {}\n\n",
        place.escape_debug(),
        quoted(&directory.join("state").to_string_lossy()),
        quoted(&directory.join("control.sock").to_string_lossy())
    );
    // Under another name: one that is there is in use until this one is whole.
    let draft = directory.join("draft.toml");
    write(&draft, &format!("{daemon}{section}"))?;
    let found = crate::load(&draft).and_then(|loaded| cluster(&loaded.config, named, place));
    let _ = fs::remove_file(&draft);
    let cluster = found?;
    let server = "connection = \"host=/var/run/postgresql user=postgres\"\nwatch = false\n";
    let file = directory.join("pgbosun.toml");
    write(&file, &format!("{daemon}[clusters.{}]\n{server}\n{section}", quoted(&cluster)))?;
    Ok((file, cluster))
}

/// `/mnt/backup`, `s3://BUCKET/PREFIX`, `gcs://…`, `azure://…`, `sftp://USER@HOST:PORT/PATH`, and what was said beside it.
fn section(place: &str, arguments: &RestorePhysical) -> anyhow::Result<String> {
    let unknown = || Exit::usage(format!("--repository {place}: give a directory, s3://, gcs://, azure:// or sftp://"));
    let mut options: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() {
            options.push((key.to_owned(), quoted(value)));
        }
    };
    match place.split_once("://") {
        None => {
            set("type", "local");
            set("path", &std::path::absolute(place)?.to_string_lossy());
        }
        Some((scheme @ ("s3" | "gcs" | "azure"), rest)) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            set("type", scheme);
            set("bucket", bucket);
            set("prefix", prefix.trim_matches('/'));
        }
        Some(("sftp", rest)) => {
            let (account, path) = rest.split_once('/').ok_or_else(unknown)?;
            let (user, address) = account.rsplit_once('@').unwrap_or(("", account));
            if user.contains(':') {
                return Err(Exit::usage(
                    "no passwords in --repository: sftp logs in with a key (--repository-option key-file=FILE)",
                ));
            }
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            set("type", "sftp");
            set("user", user);
            set("host", host);
            set("path", &format!("/{path}"));
            if !port.is_empty() {
                options.push(("port".into(), port.parse::<u16>().map_err(|_| unknown())?.to_string()));
            }
        }
        Some(_) => return Err(unknown()),
    }
    if let Some(file) = &arguments.identity_file {
        options.push(("identity-file".into(), quoted(&std::path::absolute(file)?.to_string_lossy())));
    }
    for option in &arguments.repository_option {
        let (key, value) = option
            .split_once('=')
            .filter(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            .ok_or_else(|| Exit::usage(format!("--repository-option {option}: write KEY=VALUE")))?;
        if ["secret", "password"].contains(&key) {
            return Err(Exit::usage(format!(
                "--repository-option {key}: no secrets here; use {key}-file=FILE to name a file with it"
            )));
        }
        let is_bare = value == "true" || value == "false" || value.parse::<u32>().is_ok();
        let value = if is_bare { value.to_owned() } else { quoted(value) };
        options.retain(|(known, _)| known != key);
        options.push((key.to_owned(), value));
    }
    let lines: String = options.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    Ok(format!("[repositories.{NAME}]\n{lines}"))
}

/// A text of TOML, in which nothing is anything else.
fn quoted(text: &str) -> String {
    // JSON's strings are TOML's basic strings.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The directory beside the new data directory in which the configuration lies, and whether it is new.
fn beside(to: &Path) -> anyhow::Result<(PathBuf, bool)> {
    let name = to.file_name().ok_or_else(|| Exit::usage(format!("--to {}: name a directory", to.display())))?;
    let directory = to.with_file_name(format!("{}.pgbosun", name.to_string_lossy()));
    let failed = || format!("create {}, for the configuration that recovery needs", directory.display());
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(&directory).with_context(failed)?;
            if !there.is_dir() || there.uid() != geteuid().as_raw() {
                return Err(Exit::refused(format!(
                    "{} already exists and does not belong to this user: move it away first",
                    directory.display()
                )));
            }
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).with_context(failed)?;
            Ok((directory, false))
        }
        made => made.with_context(failed).map(|()| (directory.clone(), true)),
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    publish(file, 0o600, text.as_bytes()).with_context(|| format!("write {}", file.display()))
}

/// The cluster that is meant, of those the repository holds.
fn cluster(config: &pgbosun_core::config::Config, named: Option<&str>, place: &str) -> anyhow::Result<String> {
    let runtime = crate::runtime()?;
    let found: BTreeSet<String> = runtime.block_on(async {
        let repository = Repository::open(config, NAME, &config.repositories[NAME])?;
        let (backups, damaged) = repository.backups(None).await?;
        for error in &damaged {
            tell!("{} {}", output::yellow("warning:"), pgbosun_core::human::chain(error));
        }
        anyhow::Ok(backups.into_iter().map(|info| info.cluster.clone()).collect())
    })?;
    let listed = || found.iter().cloned().collect::<Vec<_>>().join(", ");
    match (named, found.len()) {
        (_, 0) => Err(Exit::refused(format!("{place} has no backup that can be read"))),
        (Some(name), _) if found.contains(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Exit::usage(format!("{place} has no backup of {name}; it has backups of {}", listed()))),
        (None, 1) => Ok(found.iter().next().cloned().unwrap_or_default()),
        (None, _) => Err(Exit::usage(format!(
            "{place} has backups of several clusters: choose one with --cluster {}",
            listed().replace(", ", "|")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn section_of(arguments: &[&str]) -> anyhow::Result<String> {
        let all = ["pgbosun", "restore", "physical", "--to", "/d", "--repository"].iter().chain(arguments);
        let crate::cli::Command::Restore { command: crate::cli::RestoreCommand::Physical(physical) } =
            crate::cli::Cli::try_parse_from(all)?.command
        else {
            unreachable!()
        };
        section(physical.target.repository.as_deref().unwrap(), &physical)
    }

    #[test]
    fn every_kind_of_place_is_a_section() {
        let head = "[repositories.repository]\n";
        for (arguments, expected) in [
            (&["/mnt/a b"][..], "type = \"local\"\npath = \"/mnt/a b\"\n"),
            (
                &[
                    "s3://bucket/a/b/",
                    "--repository-option",
                    "endpoint=https://s3.example.com",
                    "--repository-option",
                    "path-style=false",
                ],
                "type = \"s3\"\nbucket = \"bucket\"\nprefix = \"a/b\"\nendpoint = \"https://s3.example.com\"\npath-style = false\n",
            ),
            (&["gcs://bucket"], "type = \"gcs\"\nbucket = \"bucket\"\n"),
            (
                &["sftp://backup@vault:2222/srv/pg", "--identity-file", "/root/key"],
                "type = \"sftp\"\nuser = \"backup\"\nhost = \"vault\"\npath = \"/srv/pg\"\nport = 2222\nidentity-file = \"/root/key\"\n",
            ),
            (&["/mnt/\"\n[daemon]"], "type = \"local\"\npath = \"/mnt/\\\"\\n[daemon]\"\n"),
        ] {
            assert_eq!(section_of(arguments).unwrap(), format!("{head}{expected}"));
        }
        for wrong in [
            &["ftp://host/x"][..],
            &["sftp://host"],
            &["/a", "--repository-option", "a b=c"],
            &["/a", "--repository-option", "x"],
        ] {
            assert!(section_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
