//! The restore test: a backup restored into a scratch server, recovered, inspected, measured, removed.

mod checks;

use crate::{
    Error, Progress,
    part::try_dump,
    restore::{Existing, Plan, Recovery, Restore, Target, TargetAction},
    scratch::{Scratch, SocketDirectory, find_programs},
};
use nix::fcntl::{Flock, FlockArg};
use pgbosun_core::clock;
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
    /// Which backup, from where, and how far.
    pub plan: Plan,
    /// Finding it took so long.
    pub find: Duration,
    /// Fetches WAL, with `%f` and `%p`: needed for any target but the backup's own end.
    pub restore_command: String,
    /// Queries and the answers that are expected.
    pub queries: Vec<Query>,
    /// Check tables and indexes with `pg_amcheck`, where it is installed.
    pub amcheck: bool,
    /// A table that is dumped out of the restored server after all else, to measure how long that takes: its database, and
    /// its name as SQL has it.
    pub extract: Option<(String, String)>,
    /// A table whose newest `at` must be no older than two minutes before the recovered state: database and name.
    pub heartbeat: Option<(String, String)>,
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

/// A question to the restored server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where it is asked.
    pub database: String,
    /// What is asked; one row with one column.
    pub sql: String,
    /// The answer as text; without it any answer will do, and none is a fault.
    pub expect: Option<String>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreTestResult {
    /// When it began.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// Choosing the backup and checking that the WAL reaches.
    pub find: Duration,
    /// Fetching and unpacking.
    pub restore: Duration,
    /// Server start to the recovered state.
    pub recovery: Duration,
    /// Looking through.
    pub check: Duration,
    /// Dumping what was to be extracted, no part of the recovery time; an error of it is a fault.
    pub extract: Option<Result<Duration, ()>>,
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
    /// The newest transaction that was recovered, or the end of the backup where none was replayed.
    pub recovered_to: chrono::DateTime<chrono::Utc>,
    /// What was checked beyond counting, in words.
    pub checked: Vec<String>,
    /// What did not hold; empty where everything did.
    pub faults: Vec<String>,
}

/// A scratch directory, removed whatever happens. Its lock says that the process which made it lives.
pub(crate) struct Directory {
    pub path: PathBuf,
    _lock: Option<Flock<File>>,
}

impl Directory {
    /// A new one in `parent`; those of processes that are gone are removed first.
    pub fn create(parent: &Path) -> Result<Self, Error> {
        if nix::unistd::geteuid().is_root() {
            let reason = "PostgreSQL does not run as root: run pgbosun as the user postgres, and make that user the owner of its state directory";
            return Err(Error::Refused(reason.into()));
        }
        remove_leftovers(parent);
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
            tracing::warn!(directory = %self.path.display(), "scratch directory not removed; remove it by hand: {error}");
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
        self.plan.reading("a restore test", Box::pin(self.test())).await
    }

    async fn test(&self) -> Result<RestoreTestResult, Error> {
        let info = &self.plan.info;
        let programs = find_programs(&info.server_version, self.program_directory.as_deref())?;
        let started_at = clock::now();
        let directory = Directory::create(&self.scratch_directory)?;
        let begun = Instant::now();
        let recovery = (self.plan.target != Target::BackupEnd).then(|| Recovery {
            restore_command: self.restore_command.clone(),
            target: self.plan.target.clone(),
            timeline: self.plan.timeline,
            exclusive: false,
            action: TargetAction::Promote,
            standby: false,
            end_command: String::new(),
        });
        let restore = Restore {
            original: None,
            servers: Vec::new(),
            until: self.plan.until,
            repository: self.plan.repository.clone(),
            info: info.clone(),
            target: directory.path.join("data"),
            existing: Existing::Refuse,
            tablespaces: self.tablespaces(&directory.path),
            in_place: false,
            config_files: false,
            recovery: recovery.clone(),
            max_rate: None,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        self.progress.step(format!("restoring {}", info.label), 0);
        restore.run().await?;
        let restored = begun.elapsed();
        let limit = self.recovery_timeout;
        self.progress.step("recovering", 0);
        let scratch = Scratch::start(&programs, &directory.path, info, recovery.as_ref(), limit, &self.cancel).await?;
        let recovered = begun.elapsed();
        self.progress.step("checking what was recovered", 0);
        let contents = tokio::select! {
            contents = self.inspect(&scratch, &programs) => contents,
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        let total = begun.elapsed();
        let extracted = match &self.extract {
            Some((database, table)) if contents.is_ok() => Some(tokio::select! {
                done = try_dump(&programs, &scratch, database, table) => done.map(|()| begun.elapsed() - total),
                () = self.cancel.cancelled() => Err(Error::Cancelled),
            }),
            _ => None,
        };
        scratch.stop().await;
        let mut contents = contents?;
        // C34: what is after the gap is not restorable, whatever is before it.
        contents.faults.extend(self.plan.gap.clone());
        let extract = match extracted.transpose() {
            Err(error @ (Error::Scratch(_) | Error::Program { .. })) => {
                contents.faults.push(error.to_string());
                Some(Err(()))
            }
            extracted => extracted?.map(Ok),
        };
        Ok(RestoreTestResult {
            started_at,
            find: self.find,
            restore: restored,
            recovery: recovered - restored,
            check: total - recovered,
            extract,
            total: total + self.find,
            recovery_point_age: (started_at - contents.recovered_to).to_std().unwrap_or_default(),
            databases: contents.databases,
            tables: contents.tables,
            rows: contents.rows,
            recovered_to: contents.recovered_to,
            checked: contents.checked,
            faults: contents.faults,
        })
    }

    fn tablespaces(&self, directory: &Path) -> BTreeMap<String, PathBuf> {
        let place = |oid: u32| directory.join("tablespaces").join(oid.to_string());
        let spaces = self.plan.info.tablespaces.iter();
        spaces.map(|space| (space.location.clone(), place(space.oid))).collect()
    }
}

/// Removes scratch directories of processes that are gone.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if let (true, Some(lock)) = (ours, lock(&entry.path())) {
            stop_orphan(&entry.path().join("data/postmaster.pid"));
            drop(SocketDirectory::left_by(&entry.path()));
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
