//! The one list of job kinds: what each is called, which options it has, how it is made from them.

use crate::{
    Job,
    backups::{BackupPhysical, Heartbeat, Replicate, RestoreTestJob, VerifyJob, WalCleanup},
    monitors::{BackupAge, Connectivity, Disk, Monitor, Probe, WalArchive},
    programs::{CommandJob, SqlJob},
};
use pgbosun_core::config::{self, Kind, Loaded, Problem, Problems, Section};
use pgbosun_postgres::Conninfo;
use std::{path::Path, sync::Arc};

struct Entry {
    kind: Kind,
    build: fn(&config::Job) -> Option<Box<dyn Job>>,
}

const fn job<T: Job + Section + Clone + 'static>(name: &'static str, needs_cluster: bool) -> Entry {
    Entry {
        kind: Kind { name, about: T::ABOUT, options: T::OPTIONS, needs_cluster, read: |r| Some(Arc::new(T::read(r)?)) },
        build: |job| Some(Box::new(job.options::<T>()?)),
    }
}

const fn monitor<T: Monitor + Section + Clone + 'static>(name: &'static str, needs_cluster: bool) -> Entry {
    Entry {
        kind: Kind { name, about: T::ABOUT, options: T::OPTIONS, needs_cluster, read: |r| Some(Arc::new(T::read(r)?)) },
        build: |job| Some(Box::new(Probe(job.options::<T>()?))),
    }
}

const ENTRIES: [Entry; 12] = [
    monitor::<Connectivity>("monitor.connectivity", true),
    monitor::<Disk>("monitor.disk", false),
    monitor::<BackupAge>("monitor.backup-age", true),
    monitor::<WalArchive>("monitor.wal-archive", true),
    job::<BackupPhysical>("backup.physical", true),
    job::<WalCleanup>("wal.cleanup", true),
    job::<Replicate>("replicate", true),
    job::<VerifyJob>("verify", true),
    job::<RestoreTestJob>("restore-test", true),
    job::<Heartbeat>("heartbeat", true),
    job::<CommandJob>("command", false),
    job::<SqlJob>("sql", true),
];

/// Every kind of job, for reading configuration and for its reference.
pub fn kinds() -> Vec<Kind> {
    ENTRIES.iter().map(|entry| entry.kind).collect()
}

/// The job as configured; `None` only for a kind that reading the configuration has not seen.
pub fn build(job: &config::Job) -> Option<Box<dyn Job>> {
    let entry = ENTRIES.iter().find(|entry| entry.kind.name == job.common.kind)?;
    (entry.build)(job)
}

/// Reads and checks a configuration: the sections, the jobs, and the connection strings.
///
/// # Errors
/// All problems found.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let loaded = config::load(path, &kinds())?;
    let clusters =
        loaded.config.clusters.iter().map(|(name, cluster)| (format!("clusters.{name}"), &cluster.connection));
    let history = loaded.config.history.connection.iter().map(|connection| ("history".to_owned(), connection));
    let mut problems = Vec::new();
    for (section, connection) in clusters.chain(history) {
        let source = loaded.effective.iter().find(|key| key.section == section && key.key == "connection");
        let source = source.map_or_else(|| path.display().to_string(), |key| key.source.clone());
        let mut refuse = |message: String, hint: Option<String>| {
            let key = format!("{section}.connection");
            problems.push(Problem { source: source.clone(), key, value: None, message, hint });
        };
        match Conninfo::parse(connection) {
            Ok(parsed) if parsed.holds_password() && std::env::var_os("PGPASSWORD").is_none() => {
                let hint = "put it into a file of mode 0600 and name that with password-file, or into .pgpass";
                refuse("a password does not belong here".into(), Some(hint.into()));
            }
            Ok(_) => {}
            Err(error) => refuse(error.to_string(), None),
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
}
