//! Whose the delivered directories are: what systemd-tmpfiles puts right at each boot and each upgrade, for the user of the configuration.
//!
//! Invariant: the list is that of the delivered file (systemd/tmpfiles.d/pgbosun.conf), with another user in it; a file of somebody else is not
//! touched.

use super::{HEAD, write};
use crate::{exit::Exit, output};
use anyhow::Context;
use nix::unistd::{Group, User};
use pgbosun_core::config::Config;
use std::{fs, io::ErrorKind, path::Path, process::Command};

/// It takes the place of the delivered one of this name (tmpfiles.d(5)).
const FILE: &str = "/etc/tmpfiles.d/pgbosun.conf";
/// Where a package puts the delivered one.
const PACKAGED: &str = "/usr/lib/tmpfiles.d/pgbosun.conf";
const DELIVERED: &str = include_str!("../../../../../systemd/tmpfiles.d/pgbosun.conf");
/// The user in it.
const USER: &str = "postgres";

/// Writes it for another user and applies it, or removes it where the unit's own user is back.
///
/// # Errors
/// Where it cannot be written, or is somebody else's.
pub fn put(config: &Config) -> anyhow::Result<()> {
    let there = match fs::read(FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        there => Some(there.with_context(|| format!("read {FILE}"))?),
    };
    let is_made = there.as_ref().is_some_and(|there| there.starts_with(HEAD.as_bytes()));
    // Without a package the delivered one lies here.
    let is_ours = is_made || there.as_ref().is_none_or(|there| there.is_empty() || *there == DELIVERED.as_bytes());
    let Some(user) = config.daemon.user.as_deref().filter(|user| *user != USER) else {
        if !is_made {
            return Ok(());
        }
        match Path::new(PACKAGED).exists() {
            true => fs::remove_file(FILE).with_context(|| format!("remove {FILE}"))?,
            false => write(Path::new(FILE), DELIVERED).with_context(|| format!("write {FILE}"))?,
        }
        return apply();
    };
    if !is_ours {
        return Err(Exit::refused(format!("{FILE} was not written by pgbosun and is left alone: move it away first")));
    }
    let group = User::from_name(user)?.and_then(|user| Group::from_gid(user.gid).ok().flatten());
    let group = group.map_or_else(|| user.to_owned(), |group| group.name);
    let text = format!("{HEAD}\n{}", of(user, &group));
    if there.as_deref() != Some(text.as_bytes()) {
        write(Path::new(FILE), &text).with_context(|| format!("write {FILE}"))?;
        say!("{} {FILE}", output::green("wrote"));
    }
    apply()
}

/// The delivered lines with another user and group: type, path, mode, user, group, age.
fn of(user: &str, group: &str) -> String {
    let lines = DELIVERED.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| {
        let fields = line.split_whitespace().enumerate().map(|(index, field)| {
            // ":" for what is made, and not of what is there (tmpfiles.d(5)).
            let (sign, name) = field.strip_prefix(':').map_or(("", field), |name| (":", name));
            match (index, name) {
                (3, USER) => format!("{sign}{user}"),
                (4, USER) => format!("{sign}{group}"),
                _ => field.to_owned(),
            }
        });
        fields.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

fn apply() -> anyhow::Result<()> {
    let done = Command::new("systemd-tmpfiles").args(["--create", "pgbosun.conf"]).status();
    let done = done.context("run systemd-tmpfiles")?;
    anyhow::ensure!(done.success(), "systemd-tmpfiles --create pgbosun.conf failed: {done}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_and_group_are_others() {
        let lines = of("sdba", "dba");
        assert!(lines.contains("d /etc/pgbosun 0750 root dba -\n"), "{lines}");
        assert!(lines.contains("d /etc/pgbosun/secrets 0700 sdba dba -\n"), "{lines}");
        assert!(lines.contains("d /var/lib/pgbosun :0700 :sdba :dba -\n"), "{lines}");
        let delivered = DELIVERED.lines().filter(|line| !line.starts_with('#'));
        assert!(!lines.contains(USER) && of(USER, USER).lines().eq(delivered), "{lines}");
    }
}
