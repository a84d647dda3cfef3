//! Directories of the configuration that are not there yet: a unit can only be let write where something is.
//!
//! Invariants: nothing is made where a share is to be mounted that is away; root makes a directory only below what root alone may write,
//! and anything else is made as the user of the unit, who could have done so too.

use super::{DELIVERED, is_roots_alone, property};
use crate::output;
use anyhow::Context;
use nix::unistd::{User, chown};
use pgbosun_core::{config::Config, mounts::Mounts};
use pgbosun_jobs::paths::{Named, written};
use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// Makes those that are missing, for the user of the unit, and says so; what cannot be made is said and left.
pub fn make(config: &Config, mounts: &Mounts) {
    // Those of jobs are somebody else's: directories of logs. What lies in the state directory the daemon makes itself.
    let is_its_own = |named: &Named| {
        !named.option.starts_with("jobs.") && !DELIVERED.iter().any(|place| named.path.starts_with(place))
    };
    for Named { option, path } in written(config).into_iter().filter(is_its_own) {
        // Nothing is asked of a share that is away.
        if mounts.is_away(&path) {
            tell!(
                "{} {option}: {} is on a file system that is not mounted",
                output::yellow("warning:"),
                path.display()
            );
            continue;
        }
        if path.exists() {
            continue;
        }
        match user(config).and_then(|user| one(&path, &user)) {
            Ok(()) => say!("{} {} ({option})", output::green("created"), path.display()),
            Err(error) => tell!("{} {option}: {}", output::yellow("warning:"), crate::exit::describe(&error)),
        }
    }
}

/// Whom the unit runs the daemon as.
fn user(config: &Config) -> anyhow::Result<User> {
    // Without systemd it is the one the unit comes with.
    let name = config.daemon.user.clone().or_else(|| property("User")).unwrap_or_else(|| "postgres".into());
    User::from_name(&name)?.with_context(|| format!("there is no user {name}"))
}

fn one(path: &Path, user: &User) -> anyhow::Result<()> {
    let failed = || format!("create {}", path.display());
    let is_safe =
        |place: &Path| fs::symlink_metadata(place).is_ok_and(|found| found.is_dir() && is_roots_alone(&found));
    let there = path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    if there.ancestors().all(is_safe) {
        let missing: Vec<_> = path.ancestors().take_while(|place| *place != there).collect();
        for place in missing.into_iter().rev() {
            // Whatever umask the unit has: the user must get through to the last.
            let mode = if place == path { 0o700 } else { 0o755 };
            fs::DirBuilder::new().mode(0o700).create(place).with_context(failed)?;
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).with_context(failed)?;
        }
        return chown(path, Some(user.uid), Some(user.gid)).with_context(failed);
    }
    let mut mkdir = Command::new("mkdir");
    mkdir.args(["-p", "-m", "700", "--"]).arg(path).uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    let done = mkdir.output().with_context(failed)?;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
