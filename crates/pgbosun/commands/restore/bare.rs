//! A restore on a machine that has nothing but the repository: its place is said on the command line, and the configuration is made here, since
//! the server needs one to fetch WAL while it recovers.
//!
//! Invariant: what is made lies beside the new data directory, open to nobody else, and goes through the same reading as any configuration: a
//! name in a repository that no configuration may have is refused there.

use crate::{cli::RestorePhysical, exit::Exit, output};
use anyhow::Context;
use pgbosun_repository::Repository;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
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
        return Err(Exit::usage("--repository with a place needs --to, the new data directory"));
    };
    let section = section(&place, arguments)?;
    let directory = beside(&std::path::absolute(to)?)?;
    let file = directory.join("pgbosun.toml");
    let daemon = format!(
        "# Made by \"pgbosun restore physical --repository {}\": the server fetches WAL with it while it recovers.\n\
         [daemon]\nwatch = false\nmetrics-address = \"off\"\nstate-directory = {}\ncontrol-socket = {}\n\n",
        place.escape_debug(),
        quoted(&directory.join("state").to_string_lossy()),
        quoted(&directory.join("control.sock").to_string_lossy())
    );
    write(&file, &format!("{daemon}{section}"))?;
    let cluster = cluster(&crate::load(&file)?.config, arguments.target.cluster.as_deref(), &place)?;
    let server = "connection = \"host=/var/run/postgresql user=postgres\"\nwatch = false\n";
    write(&file, &format!("{daemon}[clusters.{}]\n{server}\n{section}", quoted(&cluster)))?;
    arguments.target.repository = Some(NAME.into());
    arguments.target.cluster = Some(cluster);
    tell!(
        "{} {}: the server fetches WAL with it; it can go when recovery has ended",
        output::green("wrote"),
        file.display()
    );
    Ok(file)
}

/// `/mnt/backup`, `s3://BUCKET/PREFIX`, `gcs://…`, `azure://…`, `sftp://USER@HOST:PORT/PATH`, and what was said beside it.
fn section(place: &str, arguments: &RestorePhysical) -> anyhow::Result<String> {
    let unknown = || Exit::usage(format!("--repository {place}: a directory, s3://, gcs://, azure:// or sftp://"));
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

/// The directory beside the new data directory in which the configuration lies.
fn beside(to: &Path) -> anyhow::Result<PathBuf> {
    let name = to.file_name().ok_or_else(|| Exit::usage(format!("--to {}: name a directory", to.display())))?;
    let directory = to.with_file_name(format!("{}.pgbosun", name.to_string_lossy()));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| format!("make {}, for the configuration that recovery needs", directory.display()))?;
    Ok(directory)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("write {}", file.display());
    let mut open = fs::File::options();
    let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(file).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
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
        (_, 0) => Err(Exit::refused(format!("{place} holds no backup that can be read"))),
        (Some(name), _) if found.contains(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Exit::usage(format!("{place} has no backup of {name}, but of {}", listed()))),
        (None, 1) => Ok(found.iter().next().cloned().unwrap_or_default()),
        (None, _) => Err(Exit::usage(format!(
            "{place} has backups of several clusters: --cluster {}",
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
