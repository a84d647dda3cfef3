//! `pgbosun config unit`: the drop-in that lets the unit do what the configuration asks for.
//!
//! Invariants: a path is written as one word that systemd reads back as it is, so nothing in a configuration becomes a directive; a share
//! that is away keeps nobody from starting the daemon, which is the one who tells of it (so no `RequiresMountsFor=`). What is named is
//! the place where a share is mounted: on a directory in it systemd would put a mount of the unit's own, which holds the share when the
//! machine unmounts it, and hides the next one.

mod directories;
mod installed;
mod owned;

pub use installed::lacking;

use crate::{exit::Exit, output};
use anyhow::Context;
use nix::unistd::{User, geteuid};
use pgbosun_core::{
    config::{Config, Effective, Loaded},
    mounts::Mounts,
    publish::publish,
};
use pgbosun_jobs::paths::{named, written};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// The drop-in. Administrators' own, of later names, go before it.
const FILE: &str = "/etc/systemd/system/pgbosun.service.d/10-configuration.conf";
/// What tells our file from others.
const HEAD: &str =
    "# Made by \"pgbosun config unit\" from the configuration, rewritten at each start: changes here are lost.";
/// What the delivered unit lets the daemon write (systemd/pgbosun.service).
const DELIVERED: [&str; 3] = ["/var/lib/pgbosun", "/run/pgbosun", "/var/backups/pgbosun"];

/// Prints or installs it.
///
/// # Errors
/// The mistakes of a wrong configuration; where it cannot be written.
pub fn unit(path: &Path, install: bool) -> anyhow::Result<u8> {
    let Loaded { config, effective, files } = crate::load(path)?;
    if let Some(words) = no_such_user(&config) {
        return Err(Exit::refused(words));
    }
    if install && geteuid().is_root() {
        only_roots(&files)?;
    }
    let mounts = Mounts::of_this_machine();
    let text = drop_in(&config, &effective, &mounts);
    if !install {
        say!("{}", text.trim_end());
        return Ok(0);
    }
    let done = put(&text);
    if let Err(error) = owned::put(&config) {
        tell!("{} {}", output::yellow("warning:"), crate::exit::describe(&error));
    }
    // What is not there cannot be made writable.
    directories::make(&config, &mounts);
    done
}

/// Root takes no orders from a file that somebody else may write: whoever may would be root.
fn only_roots(files: &[PathBuf]) -> anyhow::Result<()> {
    let parents = files.iter().filter_map(|file| file.parent());
    for place in files.iter().map(PathBuf::as_path).chain(parents) {
        let found = fs::metadata(place).with_context(|| format!("inspect {}", place.display()))?;
        if !is_roots_alone(&found) {
            return Err(Exit::refused(format!(
                "{0} does not belong to root, or others may write it: the unit is only written from files that root alone may \
                 write: chown root {0}, chmod go-w {0}",
                place.display()
            )));
        }
    }
    Ok(())
}

/// Whether root alone may change it.
fn is_roots_alone(found: &fs::Metadata) -> bool {
    found.uid() == 0 && found.mode() & 0o022 == 0
}

/// What is wrong with the user of the unit.
fn no_such_user(config: &Config) -> Option<String> {
    let user = config.daemon.user.as_ref().filter(|user| !matches!(User::from_name(user), Ok(Some(_))))?;
    Some(format!("user in [daemon]: there is no user {user} on this machine: useradd --system {user}"))
}

fn put(text: &str) -> anyhow::Result<u8> {
    match fs::read(FILE) {
        Ok(there) if there == text.as_bytes() => {
            // The last reload may have failed.
            if property("NeedDaemonReload").as_deref() == Some("yes") {
                reload()?;
            }
            say!("{FILE} is up to date");
            return Ok(0);
        }
        // Empty: what a machine left that lost its power.
        Ok(there) if !there.is_empty() && !there.starts_with(HEAD.as_bytes()) => {
            return Err(Exit::refused(format!(
                "{FILE} was not written by pgbosun and is left alone: move it away first"
            )));
        }
        _ => {}
    }
    write(Path::new(FILE), text).with_context(|| match geteuid().is_root() {
        true => format!("write {FILE}"),
        false => format!("write {FILE} (this needs root: sudo pgbosun config unit --install)"),
    })?;
    reload()?;
    // Before the daemon starts it applies to that very start.
    let is_starting = std::env::var_os("INVOCATION_ID").is_some();
    let then = if is_starting { "" } else { "; \"systemctl restart pgbosun\" applies it" };
    say!("{} {FILE}{then}", output::green("wrote"));
    Ok(0)
}

fn reload() -> anyhow::Result<()> {
    let done = Command::new("systemctl").arg("daemon-reload").status().context("run systemctl daemon-reload")?;
    anyhow::ensure!(done.success(), "systemctl daemon-reload failed: {done}");
    Ok(())
}

/// What systemd says of the unit, where it says something.
fn property(name: &str) -> Option<String> {
    Some(show(&["-P", name]).trim().to_owned()).filter(|value| !value.is_empty())
}

/// What `systemctl show` says of the unit.
fn show(arguments: &[&str]) -> String {
    let done = Command::new("systemctl").args(["show", "pgbosun.service"]).args(arguments).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
}

/// Publishes a file of the system's configuration, which everybody may read.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    publish(file, 0o644, text.as_bytes())
}

fn drop_in(config: &Config, effective: &[Effective], mounts: &Mounts) -> String {
    let (written, named) = (written(config), named(effective));
    let paths = written.iter().map(|written| &written.path);
    let of_others: BTreeSet<&PathBuf> =
        paths.filter(|path| !DELIVERED[..2].iter().any(|place| path.starts_with(place))).collect();
    let units: BTreeSet<String> = of_others.iter().filter_map(|path| mounts.unit_of(path)).collect();
    let mut lines = vec![HEAD.to_owned(), "# Settings of your own: systemctl edit pgbosun".into()];
    if !units.is_empty() {
        let units = units.into_iter().collect::<Vec<_>>().join(" ");
        lines.push("\n[Unit]".into());
        // Not RequiresMountsFor=, with which the daemon would not start without them, and stop with them.
        lines.extend([format!("Wants={units}"), format!("After={units}")]);
    }
    lines.push("\n[Service]".into());
    if let Some(user) = &config.daemon.user {
        // The group is the user's own.
        lines.extend([format!("User={user}"), "Group=".into()]);
    }
    let writable: BTreeSet<&Path> = of_others.iter().filter_map(|path| writable(config, mounts, path)).collect();
    for path in writable.iter().filter(|path| !DELIVERED.iter().any(|place| path.starts_with(place))) {
        // "-": what is not there yet keeps the daemon from nothing else.
        lines.push(format!("ReadWritePaths={}", word(&format!("-{}", path.display()))));
    }
    let is_below = |path: &Path, places: &[&str]| places.iter().any(|place| path.starts_with(place));
    if named.iter().chain(&written).any(|named| is_below(&named.path, &["/home", "/root", "/run/user"])) {
        lines.push("ProtectHome=read-only".into());
    }
    // A socket alone: what is kept in such a place is removed when it gets old (tmpfiles.d(5)).
    let mut sockets = named.iter().filter(|named| named.option.ends_with(".connection"));
    if sockets.any(|socket| is_below(&socket.path, &["/tmp", "/var/tmp"])) {
        lines.push("PrivateTmp=no".into());
    }
    lines.push(format!("CPUWeight={}", config.daemon.cpu_weight));
    lines.push(format!("IOWeight={}", config.daemon.io_weight));
    lines.join("\n") + "\n"
}

/// What the unit must name so that the daemon can write at a path. Nothing where a share is away: what is mounted later takes writes as it
/// is, and would be hidden by a mount of the unit's own at its place.
fn writable<'a>(config: &Config, mounts: &'a Mounts, path: &'a Path) -> Option<&'a Path> {
    match mounts.share_of(path).filter(|share| !holds_data(config, share)) {
        Some(_) if mounts.is_away(path) => None,
        Some(share) => Some(share),
        None => Some(path),
    }
}

/// Whether a cluster's files lie on a mount: of those the daemon writes only what it must.
fn holds_data(config: &Config, share: &Path) -> bool {
    let data = config.clusters.values().filter_map(|cluster| cluster.data_directory.as_ref());
    data.into_iter().any(|data| data.starts_with(share))
}

/// One word of a unit file (systemd.syntax(7), Quoting; systemd.unit(5), Specifiers).
fn word(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            c if c.is_control() => c.to_string().bytes().for_each(|byte| word.push_str(&format!("\\x{byte:02x}"))),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, mounts: &Mounts) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbosun.toml");
        fs::write(&file, text).unwrap();
        let Loaded { config, effective, .. } = pgbosun_daemon::load(&file).unwrap();
        drop_in(&config, &effective, mounts)
    }

    #[test]
    fn everything_that_jobs_write_is_writable_and_shares_come_first() {
        let mounts =
            Mounts::read("host:/backup /mnt/off\\040site nfs4 defaults 0 0\n/dev/vdb /srv ext4 defaults 0 2\n", "");
        let text = of(
            "[daemon]\nuser = \"sdba\"\ncpu-weight = 20\n[clusters.main]\nconnection = \"host=/tmp user=postgres\"\n\
             log-directory = \"/var/log/postgresql\"\n[repositories.local]\ntype = \"local\"\npath = \"/var/backups/pgbosun\"\n\
             [repositories.share]\ntype = \"local\"\npath = \"/mnt/off site/pgbosun\"\n[wal]\nspool-directory = \"/srv/spool\"\n\
             [jobs.logs]\nkind = \"logs.rotate\"\n[jobs.off]\nkind = \"restore-test\"\nenabled = false\nscratch-directory = \"/srv/off\"\n\
             [jobs.test]\nkind = \"restore-test\"\nscratch-directory = \"/home/sdba/scratch\"\n",
            &mounts,
        );
        let rest = text.split_once("\n\n").unwrap().1;
        assert_eq!(
            rest,
            "[Unit]\nWants=mnt-off\\x20site.mount srv.mount\nAfter=mnt-off\\x20site.mount srv.mount\n\n[Service]\nUser=sdba\nGroup=\n\
             ReadWritePaths=\"-/home/sdba/scratch\"\nReadWritePaths=\"-/srv/spool\"\n\
             ReadWritePaths=\"-/var/log/postgresql\"\nProtectHome=read-only\nPrivateTmp=no\nCPUWeight=20\nIOWeight=50\n"
        );
    }

    #[test]
    fn of_a_share_that_is_there_the_place_where_it_is_mounted_is_named() {
        let mountinfo = "22 21 0:1 / /mnt/nas rw - nfs4 host:/x rw\n23 21 0:2 / /data rw - ext4 /dev/vdb rw\n";
        let mounts = Mounts::read("host:/y /mnt/away nfs4 nofail 0 0\n", mountinfo);
        let text = of(
            "[clusters.main]\nconnection = \"host=/tmp\"\ndata-directory = \"/data/pg\"\n[repositories.a]\ntype = \"local\"\n\
             path = \"/mnt/nas/pgbosun\"\n[repositories.b]\ntype = \"local\"\npath = \"/mnt/away/pgbosun\"\n\
             [repositories.c]\ntype = \"local\"\npath = \"/data/backups\"\n",
            &mounts,
        );
        let named: Vec<_> = text.lines().filter(|line| line.starts_with("ReadWritePaths=")).collect();
        assert_eq!(named, ["ReadWritePaths=\"-/data/backups\"", "ReadWritePaths=\"-/mnt/nas\""]);
    }

    #[test]
    fn what_the_unit_lets_the_daemon_write_is_what_is_left_out_here() {
        let unit = include_str!("../../../../systemd/pgbosun.service");
        let [state, runtime, writable] = DELIVERED.map(|path| path.rsplit_once('/').unwrap());
        assert!(unit.contains(&format!("\nStateDirectory={}\n", state.1)) && state.0 == "/var/lib", "{state:?}");
        assert!(unit.contains(&format!("\nRuntimeDirectory={}\n", runtime.1)) && runtime.0 == "/run", "{runtime:?}");
        assert!(unit.contains(&format!("\nReadWritePaths=-{}/{}\n", writable.0, writable.1)), "{writable:?}");
    }

    #[test]
    fn nothing_is_asked_for_that_the_unit_has() {
        let text =
            of("[repositories.local]\ntype = \"local\"\npath = \"/var/backups/pgbosun\"\n", &Mounts::read("", ""));
        assert!(!text.contains("ReadWritePaths") && !text.contains("[Unit]") && !text.contains("User="), "{text}");
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(word("-/a b"), "\"-/a b\"");
        assert_eq!(word("/50%/\"x\"\\y"), "\"/50%%/\\\"x\\\"\\\\y\"");
        assert_eq!(word("/x\nUser=root"), "\"/x\\x0aUser=root\"");
    }
}
