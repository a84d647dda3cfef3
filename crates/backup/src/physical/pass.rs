//! One pass over the data: begun, copied with the WAL beside it, published.

use super::{Incremental, Physical, Source, WalSource, WhyFull, files::Files, source, stream};
use crate::{Error, another::check_segment, config_files::ConfigFiles, inspect::Inspection, wal};
use chrono::SubsecRound;
use pgbosun_core::{clock, human, lsn::Lsn};
use pgbosun_postgres::{
    Server,
    replication::{BackupEnd, BackupOptions, BackupStart, BaseBackup, Replication},
};
use pgbosun_repository::{BackupInfo, Destinations, HEARTBEAT, LastSegment, Repository, Written};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

/// Where the data comes from.
enum Reading {
    /// The server sends it.
    Stream(Box<BaseBackup>),
    /// We read it.
    Files(Box<Files>),
}

/// A backup that has begun.
struct Begun {
    start: BackupStart,
    reading: Reading,
    parent: Option<BackupInfo>,
    why_full: Option<WhyFull>,
}

/// Bytes of the largest segment whose rest is received for the sake of what follows it.
const LARGEST_WAITED_FOR: u64 = 64 << 20;

/// One backup being taken.
pub(super) struct Pass<'a> {
    pub physical: &'a Physical,
    pub server: Server,
    pub to: Arc<Destinations>,
}

impl Pass<'_> {
    /// Says from time to time that we are at work; never returns.
    pub async fn keep_announced(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            for (_, repository) in self.to.alive() {
                if let Err(error) = repository.renew(self.to.place(), self.physical.instance).await {
                    tracing::warn!(repository = repository.name, "lease not renewed: {}", human::chain(&error));
                }
            }
        }
    }

    pub async fn run(
        &self,
        before: Inspection,
        mut wal: Option<Replication>,
    ) -> Result<(Vec<(Repository, BackupInfo)>, Option<WhyFull>), Error> {
        for (_, repository) in self.to.alive() {
            if let Err(error) = repository.begin(self.to.place(), self.physical.instance).await {
                self.to.leave(&repository.name, error);
            }
        }
        let configuration = ConfigFiles::read(&self.server, &self.to.place().system_id).await;
        let started_at = clock::now().trunc_subsecs(3);
        let slot = format!("pgbosun_{}", Uuid::now_v7().simple());
        if let Some(wal) = &mut wal {
            wal.temporary_slot(&slot).await?;
        }
        self.physical.progress.step("waiting for the checkpoint that starts the backup", 0);
        let Begun { start, reading, parent, why_full } = self.begin(&before).await?;
        self.physical.progress.step("copying the data", start.bytes);
        let (written, end, mut last_segment) = match wal {
            Some(wal) => self.copy_with_wal(&before, wal, &slot, &start, reading).await?,
            None => self.copy(reading).await.map(|(written, end)| (written, end, None))?,
        };
        if end.timeline != start.timeline {
            let reason =
                format!("the server changed to timeline {} during the backup: take the backup again", end.timeline);
            return Err(Error::Interrupted(reason));
        }
        if let WalSource::Archive(patience) = self.physical.wal {
            self.physical.progress.step("waiting for the last WAL segment in the archive", 0);
            last_segment = self.await_archive(&before, &start, &end, patience).await?;
        }
        self.physical.progress.step("publishing the backup", 0);
        let stored =
            self.publish((before, configuration), &start, (end, last_segment), started_at, written, parent).await?;
        Ok((stored, why_full))
    }

    /// Starts it: an incremental one where asked for and possible, else a full one, and why.
    async fn begin(&self, before: &Inspection) -> Result<Begun, Error> {
        let options = BackupOptions {
            label: self.to.place().label.clone(),
            fast_checkpoint: self.physical.fast_checkpoint,
            max_rate: self.physical.max_rate,
            incremental: false,
        };
        let why_full = match &self.physical.incremental {
            None => None,
            Some(incremental) => match self.begin_incremental(incremental, before, &options).await? {
                Ok(begun) => return Ok(begun),
                Err(why) => {
                    let cluster = &self.to.place().cluster;
                    tracing::info!(cluster, "a full backup instead of an incremental one: {why}");
                    Some(why)
                }
            },
        };
        let place = self.to.place();
        match self.physical.data_directory(&self.server, &place.system_id).await? {
            Ok(data) => {
                tracing::info!(cluster = place.cluster, "reading the data directory {}", data.root().display());
                let (start, files) = Files::start(data, &self.server, &options, self.physical.workers).await?;
                Ok(Begun { start, reading: Reading::Files(Box::new(files)), parent: None, why_full })
            }
            Err(reason) => {
                tracing::info!(
                    cluster = place.cluster,
                    "reading over the replication connection: {}",
                    human::chain(&reason)
                );
                let (start, backup) = self.connect().await?.base_backup(&options).await?;
                Ok(Begun { start, reading: Reading::Stream(Box::new(backup)), parent: None, why_full })
            }
        }
    }

    /// An incremental backup that has begun, or why it must be a full one.
    async fn begin_incremental(
        &self,
        incremental: &Incremental,
        before: &Inspection,
        options: &BackupOptions,
    ) -> Result<Result<Begun, WhyFull>, Error> {
        let repositories: Vec<_> = self.to.alive().into_iter().map(|(_, repository)| repository).collect();
        let place = self.to.place();
        let parent = match incremental.parent(&repositories, &place.cluster, &place.system_id, before).await? {
            Ok(parent) => parent,
            Err(why) => return Ok(Err(why)),
        };
        let options = BackupOptions { incremental: true, ..options.clone() };
        // C23: the manifest goes up on the connection that then takes the backup.
        let started = async {
            let mut connection = self.connect().await?;
            connection.upload_manifest(&parent.manifest).await?;
            connection.base_backup(&options).await
        };
        match started.await {
            Ok((start, backup)) => {
                let reading = Reading::Stream(Box::new(backup));
                Ok(Ok(Begun { start, reading, parent: Some(parent.info), why_full: None }))
            }
            Err(pgbosun_postgres::Error::Refused { code, message, .. }) if !code.starts_with("57P") => {
                Ok(Err(format!("the server refused an incremental backup: {message}").into()))
            }
            // The files need no such connection.
            Err(error) if self.physical.source != Source::Stream && error.is_not_let_in() => {
                Ok(Err(format!("incremental backups need a replication connection: {}", human::chain(&error)).into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn connect(&self) -> Result<Replication, pgbosun_postgres::Error> {
        Replication::connect(&self.server.conninfo, self.server.connect_timeout).await
    }

    /// Copies the data; returns what was written, and where the backup is consistent.
    async fn copy(&self, reading: Reading) -> Result<(Written, BackupEnd), Error> {
        match reading {
            Reading::Stream(backup) => stream::copy(&self.to, &self.physical.progress, *backup).await,
            Reading::Files(files) => files.copy(&self.to, &self.physical.progress).await,
        }
    }

    /// C14: the WAL is streamed beside the data, over a slot that keeps it; it ends with this function.
    async fn copy_with_wal(
        &self,
        before: &Inspection,
        mut wal: Replication,
        slot: &str,
        start: &BackupStart,
        reading: Reading,
    ) -> Result<(Written, BackupEnd, Option<LastSegment>), Error> {
        let history = match start.timeline {
            0 | 1 => None,
            timeline => Some(wal.timeline_history(timeline).await?),
        };
        let segment_size = before.wal_segment_size;
        let stream = wal.stream_wal(Some(slot), start.lsn.segment_start(segment_size), start.timeline).await?;
        let (stop, stop_known) = watch::channel(None::<Lsn>);
        let receiver = wal::Receiver::create(&self.to, start.timeline, segment_size, history).await?;
        let mut beside = JoinSet::new();
        beside.spawn(self.to.tasks().track_future(receiver.receive(stream, stop_known)));
        let copied = tokio::select! {
            copied = self.copy(reading) => copied,
            // Without its WAL the backup is worth nothing: there is no need to copy the rest.
            Some(ended) = beside.join_next() => Err(match ended {
                Ok(Err(error)) => error,
                Ok(Ok(_)) => Error::Interrupted("the server ended the WAL before the backup".into()),
                Err(error) => Error::broke_off("receiving WAL")(error),
            }),
        };
        let (mut written, end) = copied?;
        // A primary leaves the segment as the backup ends (PostgreSQL: `pg_backup_stop`), so all of it comes; one of the largest is
        // not worth waiting for.
        let whole = !before.standby && segment_size <= LARGEST_WAITED_FOR;
        let _ = stop.send(Some(if whole { Lsn(end.lsn.0.next_multiple_of(segment_size)) } else { end.lsn }));
        let Some(received) = beside.join_next().await else {
            return Err(Error::Interrupted("the server ended the WAL before the backup".into()));
        };
        let (wal, last_segment) = received.map_err(Error::broke_off("receiving WAL"))??;
        written.extend(wal);
        Ok((written, end, last_segment))
    }

    /// C14: a backup without WAL of its own is good once the archive has all it needs, and C43: of this server. Returns the last
    /// segment of it, where the server has that still.
    async fn await_archive(
        &self,
        before: &Inspection,
        start: &BackupStart,
        end: &BackupEnd,
        patience: Duration,
    ) -> Result<Option<LastSegment>, Error> {
        let begun = std::time::Instant::now();
        let place = self.to.place();
        // The last segment is archived when the next begins; on a standby only the primary can begin one.
        source::switch_wal(&self.physical.server).await;
        let size = before.wal_segment_size;
        let mut known = None;
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
                        "{segment} did not arrive in the WAL archive of {} within {}: check pg_stat_archiver and \
                         archive_command, or let the backup stream its WAL",
                        repository.name,
                        human::duration(patience)
                    )));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let last = Lsn(end.lsn.0.saturating_sub(1));
            let segment = pgbosun_core::wal::Segment::holding(last, start.timeline, size);
            match check_segment(&self.server, &archive, &place.cluster, (segment, size)).await {
                Ok(own) => known = own.map(|sha256| LastSegment { end: segment.next(size).start(size), sha256 }),
                Err(Error::Repository(error)) => self.to.leave(&repository.name, error),
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }
}
