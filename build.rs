//! Tells the program which version, commit and date it is: `packaging/version.sh`, or `PGBOSUN_VERSION` where a package is
//! built. Runs again after each commit, checkout and tag, and rebuilds this package alone.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=PGBOSUN_VERSION");
    println!("cargo:rerun-if-changed=packaging/version.sh");
    // The log of HEAD grows with each commit, wherever the branch is kept.
    for name in ["HEAD", "logs/HEAD", "packed-refs", "refs/tags"] {
        if let Some(path) = said(Command::new("git").args(["rev-parse", "--git-path", name]))
            && Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let words = std::env::var("PGBOSUN_VERSION").ok().or_else(|| said(&mut Command::new("packaging/version.sh")));
    let words = words.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
    let version = match *words.split_whitespace().collect::<Vec<_>>() {
        [version, commit, date] => format!("{version} ({commit}, {date})"),
        _ => words,
    };
    println!("cargo:rustc-env=PGBOSUN_VERSION={version}");
}

/// The first line of what a command prints, where it works.
fn said(command: &mut Command) -> Option<String> {
    let done = command.output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.lines().next()?.to_owned())
}
