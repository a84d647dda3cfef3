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
pub use cpu::Cpu;
pub use disk::{Disk, FileSystem};
pub use log_size::LogSize;
pub use memory::Memory;
pub use permissions::Permissions;
pub use pressure::Pressure;
pub use reachability::Reachability;
pub use temporary_files::TemporaryFiles;

use crate::JobError;
use tokio::sync::Semaphore;

/// Runs blocking work on files or `/proc`, for so long at most: a dead NFS server must not hold a monitor for ever, and what
/// hangs there holds so many threads at most.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
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
    match tokio::time::timeout(LIMIT, done).await {
        Ok(Ok(done)) => done.map_err(|reason| JobError::lasting(format!("cannot {what}: {reason}"))),
        Ok(Err(error)) => Err(JobError::lasting(format!("cannot {what}: {error}"))),
        Err(_) => {
            Err(JobError::passing(format!("cannot {what}: no answer within {}", pgbosun_core::human::duration(LIMIT))))
        }
    }
}
