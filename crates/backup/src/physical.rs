//! A physical backup: the data and the WAL beside it, read once, written to every repository in the same pass.

mod files;
mod incremental;
mod pass;
mod publish;
mod source;
mod stream;

pub(crate) use files::DataDirectory;
pub use incremental::{Incremental, WhyFull};
pub use source::{NoServer, Primary, Role, Unfit, member, now as server_time, primaries};

use crate::{
    Error, Progress, another,
    chain::newest_good,
    inspect::{Inspection, inspect},
    wal::follow_primary,
};
use pass::Pass;
use pgbosun_core::{clock, human};
use pgbosun_postgres::{Server, replication::Replication};
use pgbosun_repository::{Active, BackupInfo, BackupRef, Destinations, Error as RepositoryError, Repository};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What to back up, and where to.
#[derive(Clone, Debug)]
pub struct Physical {
    /// Cluster as configured.
    pub cluster: String,
    /// Its servers.
    pub server: Server,
    /// Where to.
    pub repositories: Vec<Repository>,
    /// This installation.
    pub instance: Uuid,
    /// The job it is for.
    pub job: Option<String>,
    /// Checkpoint at once.
    pub fast_checkpoint: bool,
    /// The most that is read in a second, bytes.
    pub max_rate: Option<u64>,
    /// Take only what changed, where that is possible.
    pub incremental: Option<Incremental>,
    /// Take it from a standby, where one is fit.
    pub prefer_standby: bool,
    /// How the data is read.
    pub source: Source,
    /// Files read and compressed at once, where the data directory itself is read.
    pub workers: usize,
    /// Where the WAL that makes it consistent comes from.
    pub wal: WalSource,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// How the data of a backup is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the data directory where that is possible, else over the replication connection.
    Auto,
    /// By the server, over a replication connection.
    Stream,
    /// From the data directory, while the server is in backup mode.
    Files,
}

/// Where the WAL that makes a backup consistent comes from (C14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalSource {
    /// It is streamed beside the data and kept with the backup.
    Stream,
    /// It is awaited in the WAL archive, for so long.
    Archive(Duration),
}

/// A backup that was taken.
#[derive(Debug)]
pub struct PhysicalBackup {
    /// The backup as each repository has it.
    pub stored: Vec<(Repository, BackupInfo)>,
    /// Repositories that do not have it, and why.
    pub dropped: Vec<(Repository, pgbosun_repository::Error)>,
    /// Why it is a full one although an incremental one was asked for.
    pub why_full: Option<WhyFull>,
    /// Leftovers of dead processes that were removed first.
    pub removed_leftovers: Vec<String>,
}

/// What is known before the first byte.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The server it will be taken from.
    pub server: String,
    /// How it will be read.
    pub reads: String,
    /// What the server is.
    pub role: Role,
    /// Bytes of all databases.
    pub bytes: u64,
    /// Bytes it will take in a repository.
    pub stored_bytes: u64,
    /// The backup an incremental one will build upon, or why it will be a full one.
    pub parent: Option<Result<String, String>>,
}

impl Physical {
    /// What a backup would do, with everything checked that can be checked before the first byte.
    ///
    /// # Errors
    /// What would keep it from being taken.
    pub async fn estimate(&self) -> Result<Estimate, Error> {
        let (server, role, before) = self.find_server().await?;
        let system_id = server.system_id().await?;
        self.wal_connection(&server, &system_id).await?;
        let mut stored_bytes = 0;
        for repository in &self.repositories {
            repository.check_signing()?;
            repository.admit(&self.cluster, &system_id).await?;
            another::check(&server, repository, (&self.cluster, &system_id), &before).await?;
            stored_bytes = stored_bytes.max(self.check_space(repository, &before).await?);
        }
        let parent = match &self.incremental {
            Some(incremental) => {
                let parent = incremental.parent(&self.repositories, &self.cluster, &system_id, &before).await?;
                Some(parent.map(|parent| parent.info.label).map_err(|why| why.reason))
            }
            None => None,
        };
        let reads = match self.data_directory(&server, &system_id).await? {
            Ok(_) if matches!(parent, Some(Ok(_))) => "the replication connection, since it is incremental".into(),
            Ok(data) => format!("the data directory {}", data.root().display()),
            Err(reason) => {
                Replication::connect(&server.conninfo, server.connect_timeout).await?;
                format!("the replication connection ({})", human::chain(&reason))
            }
        };
        let bytes = before.databases.values().sum();
        Ok(Estimate { server: server.conninfo.to_string(), reads, role, bytes, stored_bytes, parent })
    }

    /// Takes the backup. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// Whatever went wrong; then no repository lists anything of it.
    pub async fn take(&self) -> Result<PhysicalBackup, Error> {
        let (server, _, before) = self.find_server().await?;
        let system_id = server.system_id().await?;
        let wal = self.wal_connection(&server, &system_id).await?;
        let mut removed_leftovers = Vec::new();
        let mut ready = Vec::new();
        let mut dropped = Vec::new();
        for repository in &self.repositories {
            match self.prepare(repository, &server, &system_id, &before).await {
                Ok(removed) => {
                    removed_leftovers.extend(removed);
                    ready.push(repository.clone());
                }
                // C10, C43: another server is nobody's backup. Where a repository says so that must have it, nobody gets it.
                Err(Error::Repository(
                    error @ (RepositoryError::OtherSystem { .. } | RepositoryError::AnotherServer { .. }),
                )) if repository.options.required => {
                    return Err(error.into());
                }
                // C35: one that is away or full, or holds another server, must not keep the others from having a backup.
                Err(Error::Repository(error)) if self.repositories.len() > 1 => {
                    dropped.push((repository.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        if ready.is_empty() {
            let first = dropped.into_iter().next().map(|(_, error)| error.into());
            return Err(first.unwrap_or_else(|| Error::Refused("no repository is configured to back up to".into())));
        }
        // C41: whether what was backed up before is still on the line is judged by the archives.
        follow_primary(&self.server, &self.cluster, &ready).await;
        let place = self.new_place(&system_id);
        let _active = Active::claim(&place.lease());
        let to = Arc::new(Destinations::new(&ready, &place));
        let pass = Pass { physical: self, server, to: Arc::clone(&to) };
        let taken = tokio::select! {
            taken = pass.run(before, wal) => taken,
            () = pass.keep_announced() => Err(Error::Cancelled),
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        to.settle().await;
        match taken {
            Ok((stored, why_full)) => {
                dropped.extend(to.dropped());
                for (repository, _) in &dropped {
                    remove_unpublished(repository, &place).await;
                }
                Ok(PhysicalBackup { stored, dropped, why_full, removed_leftovers })
            }
            Err(error) => {
                for repository in &ready {
                    remove_unpublished(repository, &place).await;
                }
                Err(error)
            }
        }
    }

    /// The server to take it from, and what it says of itself.
    async fn find_server(&self) -> Result<(Server, Role, Inspection), Error> {
        let (server, role) = member(&self.server, self.prefer_standby).await?;
        let before = inspect(&server).await?;
        if before.version_number < 150_000 {
            return Err(Error::Refused(format!(
                "PostgreSQL {} is not supported for physical backups: 15 or later is needed",
                before.version
            )));
        }
        Ok((server, role, before))
    }

    /// The connection that the WAL comes by. What waits for the archive needs none, nor the right to replicate.
    async fn wal_connection(&self, server: &Server, system_id: &str) -> Result<Option<Replication>, Error> {
        if let WalSource::Archive(_) = self.wal {
            return Ok(None);
        }
        let mut connection = Replication::connect(&server.conninfo, server.connect_timeout).await?;
        // C10: an address may lead to one server now, and to another one a moment later.
        match connection.identify().await?.system_id {
            other if other != system_id => Err(Error::Interrupted(format!(
                "the address {} led to system identifier {system_id}, and then to {other}",
                server.conninfo
            ))),
            _ => Ok(Some(connection)),
        }
    }

    async fn prepare(
        &self,
        repository: &Repository,
        server: &Server,
        system_id: &str,
        before: &Inspection,
    ) -> Result<Vec<String>, Error> {
        repository.check_signing()?;
        repository.prepare().await?;
        // A place that allows no removal, a bucket under a policy, takes backups all the same.
        let removed = repository.remove_leftovers(&self.cluster, self.instance).await.unwrap_or_else(|error| {
            tracing::warn!(repository = repository.name, "leftovers not removed: {}", human::chain(&error));
            Vec::new()
        });
        repository.check_system_id(&self.cluster, system_id).await?;
        another::check(server, repository, (&self.cluster, system_id), before).await?;
        self.check_space(repository, before).await?;
        Ok(removed)
    }

    /// The data directory to read, or why the server sends the data instead.
    async fn data_directory(&self, server: &Server, system_id: &str) -> Result<Result<DataDirectory, Error>, Error> {
        match self.source {
            Source::Stream => Ok(Err(Error::Refused("source = \"stream\"".into()))),
            Source::Auto => DataDirectory::find(server, system_id).await,
            Source::Files => match DataDirectory::find(server, system_id).await? {
                Ok(found) => Ok(Ok(found)),
                Err(reason) => Err(Error::DataDirectory(Box::new(reason))),
            },
        }
    }

    /// A new label under the system identifier. It begins with the time, for people, and ends in chance, so that two jobs
    /// of the same second are two backups.
    fn new_place(&self, system_id: &str) -> BackupRef {
        let chance = Uuid::now_v7().simple().to_string();
        let label = format!("{}-{}", clock::now().format("%Y%m%dT%H%M%SZ"), &chance[26..]);
        BackupRef { cluster: self.cluster.clone(), system_id: system_id.to_owned(), label }
    }

    /// Refuses to begin what would fill a repository: the newest backup's size is the estimate, else a fifth of the data.
    async fn check_space(&self, repository: &Repository, before: &Inspection) -> Result<u64, Error> {
        let newest = newest_good(repository, &self.cluster).await?;
        let estimate = newest.map_or_else(|| before.databases.values().sum::<u64>() / 5, |info| info.stored_bytes);
        repository.check_space(estimate).await?;
        Ok(estimate)
    }
}

/// What was written to a repository that does not list it is removed; what cannot be removed is a leftover.
async fn remove_unpublished(repository: &Repository, place: &BackupRef) {
    // One that was published is a whole backup, whatever happened afterwards.
    if repository.is_published(place).await.unwrap_or(true) {
        return;
    }
    if let Err(error) = repository.remove(place).await {
        let reason = human::chain(&error);
        tracing::warn!(repository = repository.name, "leftover remains until the next backup: {reason}");
    }
}

/// A server that says nothing for so long in the middle of a backup is gone; while it works it reports every second.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);

/// The error of a server that fell silent.
pub(crate) fn silent() -> Error {
    pgbosun_postgres::Error::Timeout { what: "waiting for the server during the backup".into(), limit: SILENCE }.into()
}
