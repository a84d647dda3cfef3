//! The configuration a daemon works with, as it was read: for commands, where somebody is in the midst of changing the files.
//!
//! Invariant: it is used only while a daemon answers at the socket it names; a configuration that no daemon works with says
//! nothing about how things are.

use pgbosun_core::config::{Loaded, state_directory};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

/// Where it lies in the state directory.
const PLACE: &str = "accepted";
/// Which files these are copies of.
const ORIGIN: &str = "origin";

/// Keeps copies of the files that were read.
pub(crate) fn keep(loaded: &Loaded) {
    let place = loaded.config.daemon.state_directory.join(PLACE);
    if let Err(error) = copy(&loaded.config.path, &loaded.files, &place) {
        tracing::warn!("the configuration could not be kept in {}: {error}", place.display());
    }
}

fn copy(path: &Path, files: &[PathBuf], place: &Path) -> io::Result<()> {
    let unfinished = place.with_extension("unfinished");
    for old in [&unfinished, &place.to_owned()] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    let directory = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    let write = |path: &Path, bytes: &[u8]| {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
    };
    directory(&unfinished.join("conf.d"))?;
    for file in files {
        let name = file.file_name().unwrap_or_default();
        let target = if file == path { unfinished.join("pgbosun.toml") } else { unfinished.join("conf.d").join(name) };
        write(&target, &fs::read(file)?)?;
    }
    write(&unfinished.join(ORIGIN), path.as_os_str().as_encoded_bytes())?;
    fs::rename(unfinished, place)
}

/// What the daemon works with that runs with the configuration at `path`.
pub fn running(path: &Path) -> Option<Loaded> {
    let state = state_directory(path);
    let place = state.join(PLACE);
    let origin = fs::read(place.join(ORIGIN)).ok()?;
    (origin == path.as_os_str().as_encoded_bytes()).then_some(())?;
    let mut loaded = crate::load(&place.join("pgbosun.toml")).ok()?;
    (loaded.config.daemon.state_directory == state).then_some(())?;
    UnixStream::connect(&loaded.config.daemon.control_socket).ok()?;
    path.clone_into(&mut loaded.config.path);
    Some(loaded)
}
