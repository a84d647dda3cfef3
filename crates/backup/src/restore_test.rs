//! The restore test: a backup restored into a scratch server, recovered, looked through, measured, removed.

use crate::{
    Error, Progress,
    restore::Restore,
    scratch::{Scratch, find_programs},
};
use nix::fcntl::{Flock, FlockArg};
use pgbosun_core::clock;
use pgbosun_repository::{BackupInfo, Repository};
use sqlx::{AssertSqlSafe, Connection};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What to test.
#[derive(Clone, Debug)]
pub struct RestoreTest {
    /// From where.
    pub repository: Repository,
    /// Which backup.
    pub info: BackupInfo,
    /// Where the scratch server may live; a directory of its own is made in it and removed.
    pub scratch_directory: PathBuf,
    /// The server's programs, unless found by version.
    pub program_directory: Option<PathBuf>,
    /// How long the server may take to recover.
    pub recovery_timeout: Duration,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreTestResult {
    /// When it began.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// Fetching and unpacking.
    pub restore: Duration,
    /// Server start to consistent state.
    pub recovery: Duration,
    /// Looking through.
    pub check: Duration,
    /// All of it: the measured recovery time.
    pub total: Duration,
    /// Age of the recovered state when the test began: the measured recovery point.
    pub recovery_point_age: Duration,
    /// Databases found.
    pub databases: u64,
    /// Ordinary tables counted.
    pub tables: u64,
    /// Rows counted.
    pub rows: u64,
    /// What did not hold; empty where everything did.
    pub faults: Vec<String>,
}

/// A scratch directory, removed whatever happens. Its lock says that the process which made it lives.
struct Directory {
    path: PathBuf,
    _lock: Option<Flock<File>>,
}

impl Directory {
    /// A new one in `parent`.
    fn create(parent: &Path) -> Result<Self, Error> {
        // A socket's path may have 107 bytes (unix(7)).
        let path = parent.join(format!("{PREFIX}{}", &Uuid::now_v7().simple().to_string()[20..]));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(Error::file("create", &path))?;
        let _lock = lock(&path);
        Ok(Self { path, _lock })
    }
}

/// The lock of a scratch directory, where nobody holds it.
fn lock(directory: &Path) -> Option<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock")).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.path.display(), "scratch directory stays; remove it by hand: {error}");
        }
    }
}

/// How scratch directories are named, so that a later test finds what a crash left.
const PREFIX: &str = "pgbosun-restore-test-";

impl RestoreTest {
    /// Runs the test. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// Where the backup cannot be restored or the server does not recover: then it is not a backup.
    pub async fn run(&self) -> Result<RestoreTestResult, Error> {
        let programs = find_programs(&self.info.server_version, self.program_directory.as_deref())?;
        remove_leftovers(&self.scratch_directory);
        let started_at = clock::now();
        let directory = Directory::create(&self.scratch_directory)?;
        let begun = Instant::now();
        let restore = Restore {
            repository: self.repository.clone(),
            info: self.info.clone(),
            target: directory.path.join("data"),
            tablespaces: self.tablespaces(&directory.path),
            keep_archiving: false,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        restore.run().await?;
        let restored = begun.elapsed();
        let scratch =
            Scratch::start(&programs, &directory.path, &self.info, self.recovery_timeout, &self.cancel).await?;
        let recovered = begun.elapsed();
        let counted = tokio::select! {
            counted = count(&scratch, &self.info) => counted,
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        let total = begun.elapsed();
        scratch.stop().await;
        let mut result = counted?;
        result.started_at = started_at;
        result.restore = restored;
        result.recovery = recovered - restored;
        result.check = total - recovered;
        result.total = total;
        result.recovery_point_age = (started_at - self.info.finished_at).to_std().unwrap_or_default();
        Ok(result)
    }

    fn tablespaces(&self, directory: &Path) -> BTreeMap<String, PathBuf> {
        let place = |oid: u32| directory.join("tablespaces").join(oid.to_string());
        self.info.tablespaces.iter().map(|space| (space.location.clone(), place(space.oid))).collect()
    }
}

/// Removes scratch directories of processes that are gone.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if let (true, Some(lock)) = (ours, lock(&entry.path())) {
            stop_orphan(&entry.path().join("data/postmaster.pid"));
            drop(Directory { path: entry.path(), _lock: Some(lock) });
        }
    }
}

/// Ends a scratch server that outlived the process which started it.
fn stop_orphan(pid_file: &Path) {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return };
    let mut lines = text.lines();
    let pid = lines.next().and_then(|pid| pid.trim().parse().ok()).map(nix::unistd::Pid::from_raw);
    // Its command line names the directory: a process that merely got the same number does not.
    let command = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok()).unwrap_or_default();
    if let (Some(pid), true) = (pid, String::from_utf8_lossy(&command).contains(PREFIX)) {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        std::thread::sleep(Duration::from_millis(500));
    }
}

async fn count(scratch: &Scratch, info: &BackupInfo) -> Result<RestoreTestResult, Error> {
    let mut connection = scratch.server("postgres").connect().await?;
    let names: Vec<String> = sqlx::query_scalar(include_str!("restore_test/databases.sql"))
        .fetch_all(&mut connection)
        .await
        .map_err(Error::query("list the restored databases"))?;
    let _ = connection.close().await;
    let mut faults = Vec::new();
    for missing in info.databases.keys().filter(|name| *name != "template0" && !names.contains(name)) {
        faults.push(format!("database {missing} was there when the backup began and is not in the restored cluster"));
    }
    let (mut tables, mut rows) = (0, 0);
    for name in &names {
        let mut connection = scratch.server(name).connect().await?;
        let listed: Vec<String> = sqlx::query_scalar(include_str!("restore_test/tables.sql"))
            .fetch_all(&mut connection)
            .await
            .map_err(Error::query("list the restored tables"))?;
        for table in listed {
            // The name comes quoted from the server.
            let counted: Result<i64, _> =
                sqlx::query_scalar(AssertSqlSafe(format!("select pg_catalog.count(*) from {table}")))
                    .fetch_one(&mut connection)
                    .await;
            match counted {
                Ok(counted) => {
                    tables += 1;
                    rows += counted.unsigned_abs();
                }
                Err(error) => faults.push(format!("{name}: {table} cannot be read: {error}")),
            }
        }
        let _ = connection.close().await;
    }
    Ok(RestoreTestResult {
        started_at: clock::now(),
        restore: Duration::ZERO,
        recovery: Duration::ZERO,
        check: Duration::ZERO,
        total: Duration::ZERO,
        recovery_point_age: Duration::ZERO,
        databases: names.len() as u64,
        tables,
        rows,
        faults,
    })
}
