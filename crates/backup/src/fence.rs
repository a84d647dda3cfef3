//! A fence around programs that work on a copy: they may write in some directories and nowhere else (Landlock, Linux 5.13).
//!
//! C29: settings keep a scratch server in its directory; the fence holds where a setting was forgotten, and whatever SQL or a
//! module of the copy does. It holds for the program and all that it starts, and nothing ends it.

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, path_beneath_rules,
};
use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The subcommand that fences itself in and then becomes another program.
pub const SUBCOMMAND: &str = "fence";

/// What every server needs beside its own directories: shared memory, and the end of what nobody reads.
const ALWAYS: [&str; 3] = ["/dev/shm", "/dev/null", "/dev/zero"];

/// Rights to write as Linux 6.2 knows them; an older kernel holds to those that it knows.
const RIGHTS: ABI = ABI::V3;

/// Whether this kernel can hold a fence.
pub fn is_there() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.handle_access(AccessFs::from_write(ABI::V1)).and_then(Ruleset::create).is_ok()
}

/// This program again, to be followed by the program that is to run behind the fence and its arguments.
pub(crate) fn command(writable: &[&Path]) -> tokio::process::Command {
    // Also where the file was replaced by a newer version since we were started.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND);
    for directory in writable {
        command.arg("--writable").arg(directory);
    }
    command.arg("--");
    command
}

/// Fences this thread in, and whatever it starts from now on.
fn enter(writable: &[PathBuf]) -> Result<(), RulesetError> {
    let write = AccessFs::from_write(RIGHTS);
    let places = writable.iter().map(PathBuf::as_path).chain(ALWAYS.map(Path::new));
    let fence = Ruleset::default().handle_access(write)?.create()?;
    fence.add_rules(path_beneath_rules(places, write))?.restrict_self().map(drop)
}

/// Becomes another program that may write in these directories alone. Returns only where that fails.
pub fn run(writable: &[PathBuf], program: &Path, arguments: &[std::ffi::OsString]) -> std::io::Error {
    match enter(writable) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => std::io::Error::other(error),
    }
}
