//! The machine the daemon runs on.

mod clock;
mod cpu;
mod disk;
mod log_size;
mod memory;
mod permissions;
mod pressure;
mod processes;
mod reachability;
mod temporary_files;

pub use clock::Clock;
pub(crate) use clock::synchronized;
pub use cpu::Cpu;
pub use disk::{Disk, FileSystem};
pub use log_size::LogSize;
pub use memory::Memory;
pub use permissions::Permissions;
pub use pressure::Pressure;
pub use reachability::Reachability;
pub use temporary_files::TemporaryFiles;

use crate::{JobError, place};
use std::{io, path::Path};
use tokio::sync::Semaphore;

/// What goes wrong in blocking work; an error of the operating system stays one.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The error of the operating system about a path.
pub(super) fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Work on the files of a place, for so long at most: a dead NFS server must not hold a monitor for ever.
pub(super) async fn at<T: Send + 'static>(
    what: &str,
    place: &Path,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, JobError> {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
    let failed = || JobError::lasting(format!("cannot {what}"));
    match place::at(place, LIMIT, work).await {
        Ok(done) => done.map_err(|error| failed().because(error)),
        Err(hung) => Err(JobError::passing(format!("cannot {what}")).because(hung)),
    }
}

/// Runs blocking work on `/proc`, for so long at most, and on so many threads.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, JobError> {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
    static THREADS: Semaphore = Semaphore::const_new(32);
    let done = async {
        let thread = THREADS.acquire().await;
        let work = move || {
            let _held = thread;
            work()
        };
        tokio::task::spawn_blocking(work).await
    };
    let failed = || JobError::lasting(format!("cannot {what}"));
    match tokio::time::timeout(LIMIT, done).await {
        Ok(Ok(done)) => done.map_err(|error| failed().because(error)),
        Ok(Err(error)) => Err(failed().because(error)),
        Err(_) => {
            Err(JobError::passing(format!("cannot {what}: no answer within {}", pgbosun_core::human::duration(LIMIT))))
        }
    }
}
