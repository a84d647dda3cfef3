//! A physical backup: `BASE_BACKUP` and the WAL beside it, read once, written to every repository in the same pass.

mod copy;
mod incremental;
mod publish;
mod source;

pub use incremental::Incremental;
pub use source::{Role, member};

use crate::{
    Error, Progress,
    inspect::{Inspection, inspect},
    wal,
};
use chrono::SubsecRound;
use pgbosun_core::{clock, human, lsn::Lsn};
use pgbosun_postgres::{
    Server,
    replication::{BackupEnd, BackupOptions, BackupStart, BaseBackup, Replication},
};
use pgbosun_repository::{
    Active, BackupInfo, BackupRef, Destinations, Error as RepositoryError, HEARTBEAT, Repository, Written,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
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
    /// Where the WAL that makes it consistent comes from.
    pub wal: WalSource,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
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
    pub why_full: Option<String>,
    /// Leftovers of dead processes that were removed first.
    pub removed_leftovers: Vec<String>,
}

/// What is known before the first byte.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The server it will be taken from.
    pub server: String,
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
        let (server, role, before) = self.look().await?;
        let mut wal = Replication::connect(&server.conninfo, server.connect_timeout).await?;
        let identity = wal.identify().await?;
        let mut stored_bytes = 0;
        for repository in &self.repositories {
            repository.prepare().await?;
            repository.check_system_id(&self.cluster, &identity.system_id).await?;
            stored_bytes = stored_bytes.max(self.check_space(repository, &before).await?);
        }
        let parent = match &self.incremental {
            Some(incremental) => {
                let parent =
                    incremental.parent(&self.repositories, &self.cluster, &identity.system_id, &before).await?;
                Some(parent.map(|parent| parent.info.label))
            }
            None => None,
        };
        let bytes = before.databases.values().sum();
        Ok(Estimate { server: server.conninfo.to_string(), role, bytes, stored_bytes, parent })
    }

    /// Takes the backup. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// Whatever went wrong; then no repository lists anything of it.
    pub async fn take(&self) -> Result<PhysicalBackup, Error> {
        let (server, _, before) = self.look().await?;
        let mut wal = Replication::connect(&server.conninfo, server.connect_timeout).await?;
        let identity = wal.identify().await?;
        let mut removed_leftovers = Vec::new();
        let mut ready = Vec::new();
        let mut dropped = Vec::new();
        for repository in &self.repositories {
            match self.prepare(repository, &identity.system_id, &before).await {
                Ok(removed) => {
                    removed_leftovers.extend(removed);
                    ready.push(repository.clone());
                }
                // C10: another server is nobody's backup.
                Err(Error::Repository(error @ RepositoryError::OtherSystem { .. })) => return Err(error.into()),
                // One that is away must not keep the others from having a backup.
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
        let place = self.new_place(&identity.system_id);
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
    async fn look(&self) -> Result<(Server, Role, Inspection), Error> {
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

    async fn prepare(
        &self,
        repository: &Repository,
        system_id: &str,
        before: &Inspection,
    ) -> Result<Vec<String>, Error> {
        repository.prepare().await?;
        // A place that allows no removal, a bucket under a policy, takes backups all the same.
        let removed = repository.remove_leftovers(&self.cluster, self.instance).await.unwrap_or_else(|error| {
            tracing::warn!(repository = repository.name, "leftovers stay: {}", human::chain(&error));
            Vec::new()
        });
        repository.check_system_id(&self.cluster, system_id).await?;
        self.check_space(repository, before).await?;
        Ok(removed)
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
        let newest = repository.newest_good(&self.cluster).await?;
        let estimate = newest.map_or_else(|| before.databases.values().sum::<u64>() / 5, |info| info.stored_bytes);
        match repository.storage.free_bytes().await?.filter(|free| *free < estimate) {
            Some(free) => Err(Error::Refused(format!(
                "repository {} has {} free, and the backup needs about {}: free space or add a repository",
                repository.name,
                human::size(free),
                human::size(estimate)
            ))),
            None => Ok(estimate),
        }
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
        tracing::warn!(repository = repository.name, "leftover stays until the next backup: {reason}");
    }
}

/// One backup being taken.
struct Pass<'a> {
    physical: &'a Physical,
    server: Server,
    to: Arc<Destinations>,
}

impl Pass<'_> {
    /// Says from time to time that we are at work; never returns.
    async fn keep_announced(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            for (_, repository) in self.to.alive() {
                if let Err(error) = repository.renew(self.to.place(), self.physical.instance).await {
                    tracing::warn!(repository = repository.name, "lease not renewed: {}", human::chain(&error));
                }
            }
        }
    }

    async fn run(
        &self,
        before: Inspection,
        mut wal: Replication,
    ) -> Result<(Vec<(Repository, BackupInfo)>, Option<String>), Error> {
        for (_, repository) in self.to.alive() {
            if let Err(error) = repository.begin(self.to.place(), self.physical.instance).await {
                self.to.leave(&repository.name, error);
            }
        }
        let started_at = clock::now().trunc_subsecs(3);
        let slot = format!("pgbosun_{}", Uuid::now_v7().simple());
        wal.temporary_slot(&slot).await?;
        let (start, backup, parent, why_full) = self.begin(&before).await?;
        self.physical.progress.expect(start.tablespaces.iter().map(|tablespace| tablespace.bytes).sum());
        let (written, end) = match self.physical.wal {
            WalSource::Stream => self.copy_with_wal(&before, wal, &slot, &start, backup).await?,
            WalSource::Archive(_) => copy::copy(&self.to, &self.physical.progress, backup, None).await?,
        };
        if end.timeline != start.timeline {
            let reason = format!("the server changed to timeline {} during the backup: take it again", end.timeline);
            return Err(Error::Interrupted(reason));
        }
        if let WalSource::Archive(patience) = self.physical.wal {
            self.await_archive(&before, &start, &end, patience).await?;
        }
        let stored = self.publish(before, &start, end, started_at, written, parent).await?;
        Ok((stored, why_full))
    }

    /// Starts it: an incremental one where asked for and possible, else a full one, and why.
    async fn begin(
        &self,
        before: &Inspection,
    ) -> Result<(BackupStart, BaseBackup, Option<BackupInfo>, Option<String>), Error> {
        let options = BackupOptions {
            label: self.to.place().label.clone(),
            fast_checkpoint: self.physical.fast_checkpoint,
            max_rate: self.physical.max_rate,
            incremental: false,
        };
        let connect = || Replication::connect(&self.server.conninfo, self.server.connect_timeout);
        let mut why_full = None;
        if let Some(incremental) = &self.physical.incremental {
            let repositories: Vec<_> = self.to.alive().into_iter().map(|(_, repository)| repository).collect();
            let place = self.to.place();
            match incremental.parent(&repositories, &place.cluster, &place.system_id, before).await? {
                Err(reason) => why_full = Some(reason),
                Ok(parent) => {
                    let options = BackupOptions { incremental: true, ..options.clone() };
                    // C23: the manifest goes up on the connection that then takes the backup.
                    let started = async {
                        let mut connection = connect().await?;
                        connection.upload_manifest(&parent.manifest).await?;
                        connection.base_backup(&options).await
                    };
                    match started.await {
                        Ok((start, backup)) => return Ok((start, backup, Some(parent.info), None)),
                        Err(pgbosun_postgres::Error::Refused { code, message }) if !code.starts_with("57P") => {
                            why_full = Some(format!("the server refused an incremental one: {message}"));
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            let reason = why_full.as_deref().unwrap_or_default();
            tracing::info!(cluster = self.to.place().cluster, "a full backup instead of an incremental one: {reason}");
        }
        let (start, backup) = connect().await?.base_backup(&options).await?;
        Ok((start, backup, None, why_full))
    }

    /// C14: the WAL is streamed beside the data, over a slot that keeps it; it ends with this function.
    async fn copy_with_wal(
        &self,
        before: &Inspection,
        mut wal: Replication,
        slot: &str,
        start: &BackupStart,
        backup: BaseBackup,
    ) -> Result<(Written, BackupEnd), Error> {
        let history = match start.timeline {
            0 | 1 => None,
            timeline => Some(wal.timeline_history(timeline).await?),
        };
        let segment_size = before.wal_segment_size;
        let stream = wal.stream_wal(slot, start.lsn.segment_start(segment_size), start.timeline).await?;
        let (stop, stop_known) = watch::channel(None::<Lsn>);
        let receiver = wal::Receiver::create(&self.to, start.timeline, segment_size, history).await?;
        let mut beside = JoinSet::new();
        beside.spawn(self.to.tasks().track_future(receiver.receive(stream, stop_known)));
        let (mut written, end) = copy::copy(&self.to, &self.physical.progress, backup, Some(&mut beside)).await?;
        let _ = stop.send(Some(end.lsn));
        match beside.join_next().await {
            Some(Ok(received)) => written.extend(received?),
            other => return Err(Error::Interrupted(format!("the WAL receiver ended: {other:?}"))),
        }
        Ok((written, end))
    }

    /// C14: a backup without WAL of its own is good once the archive has all it needs.
    async fn await_archive(
        &self,
        before: &Inspection,
        start: &BackupStart,
        end: &BackupEnd,
        patience: Duration,
    ) -> Result<(), Error> {
        let begun = std::time::Instant::now();
        let place = self.to.place();
        // The last segment is archived when the next begins; on a standby only the primary can begin one.
        source::switch_wal(&self.physical.server).await;
        let size = before.wal_segment_size;
        for (_, repository) in self.to.alive() {
            let archive = pgbosun_repository::WalArchive::new(&repository, &place.cluster, &place.system_id);
            let mut segment = pgbosun_core::wal::Segment::holding(start.lsn, start.timeline, size);
            while segment.start(size) < end.lsn {
                let file = pgbosun_core::wal::WalFile::Segment(segment);
                if archive.find(&file).await?.is_some() {
                    segment = segment.next(size);
                    continue;
                }
                if begun.elapsed() > patience {
                    return Err(Error::Refused(format!(
                        "{segment} did not come into the WAL archive of {} within {}: look at pg_stat_archiver and \
                         archive_command, or let the backup stream its WAL",
                        repository.name,
                        human::duration(patience)
                    )));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }
}

/// A server that says nothing for so long in the middle of a backup is gone; while it works it reports every second.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);

/// The error of a server that fell silent.
pub(crate) fn silent() -> Error {
    pgbosun_postgres::Error::Timeout { what: "waiting for the server during the backup".into(), limit: SILENCE }.into()
}
