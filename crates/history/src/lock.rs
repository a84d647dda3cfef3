//! The lock of a state directory: one process writes a journal.

use crate::Error;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::File,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

/// Held as long as a process works in the state directory.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

impl StateLock {
    /// Takes the lock; creates the directory (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process holds it, [`Error::State`] where the directory cannot be used.
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { path: directory.to_owned() },
            _ => Error::State { path: directory.to_owned(), source },
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let path = directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Error::Locked { path: directory.to_owned() }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// The same, waiting for so long for who has it: a command that only looks is done in a moment.
    ///
    /// # Errors
    /// Those of [`Self::take`].
    pub async fn wait(directory: &Path, patience: Duration) -> Result<Self, Error> {
        const PAUSE: Duration = Duration::from_millis(50);
        let begun = Instant::now();
        loop {
            match Self::take(directory) {
                Err(Error::Locked { .. }) if begun.elapsed() < patience => tokio::time::sleep(PAUSE).await,
                taken => return taken,
            }
        }
    }
}
