//! A physical backup: `BASE_BACKUP` and the WAL beside it, read once, written to every repository in the same pass.

use crate::{
    Error, Progress,
    inspect::{Inspection, inspect},
    wal,
};
use chrono::SubsecRound;
use pgbosun_core::{clock, human, lsn::Lsn};
use pgbosun_postgres::{
    Server,
    replication::{BackupEnd, BackupEvent, BackupOptions, BackupStart, BaseBackup, Replication},
};
use pgbosun_repository::{
    Active, BackupInfo, BackupRef, FORMAT, Object, ObjectKind, PlainWriter, Repository, TablespaceInfo, TarVolumes,
    VolumeWriter,
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
    /// Its server.
    pub server: Server,
    /// Where to.
    pub repositories: Vec<Repository>,
    /// This installation.
    pub instance: Uuid,
    /// Checkpoint at once.
    pub fast_checkpoint: bool,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A backup that was taken.
#[derive(Clone, Debug)]
pub struct PhysicalBackup {
    /// The backup as each repository has it.
    pub stored: Vec<(String, BackupInfo)>,
    /// Leftovers of dead processes that were removed first.
    pub removed_leftovers: Vec<String>,
}

impl Physical {
    /// Takes the backup. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// Whatever went wrong; then no repository lists anything of it.
    pub async fn take(&self) -> Result<PhysicalBackup, Error> {
        let mut removed_leftovers = Vec::new();
        for repository in &self.repositories {
            repository.prepare().await?;
            removed_leftovers.extend(repository.remove_leftovers(&self.cluster, self.instance).await?);
        }
        let before = inspect(&self.server).await?;
        if before.version_number < 150_000 {
            return Err(Error::Refused(format!(
                "PostgreSQL {} is not supported for physical backups: 15 or later is needed",
                before.version
            )));
        }
        let mut wal = Replication::connect(&self.server.conninfo, self.server.connect_timeout).await?;
        let identity = wal.identify().await?;
        let place = self.place(&identity.system_id).await?;
        self.check_space(&before).await?;
        let _active = Active::claim(&place.label);
        let taken = tokio::select! {
            taken = self.take_into(&place, before, wal) => taken,
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        match taken {
            Ok(stored) => Ok(PhysicalBackup { stored, removed_leftovers }),
            Err(error) => {
                for repository in &self.repositories {
                    // One that was published is a whole backup, whatever happened afterwards.
                    if repository.is_published(&place).await.unwrap_or(true) {
                        continue;
                    }
                    if let Err(error) = repository.remove(&place).await {
                        let reason = human::chain(&error);
                        tracing::warn!(repository = repository.name, "leftover stays until the next backup: {reason}");
                    }
                }
                Err(error)
            }
        }
    }

    /// A new label under the system identifier; another identifier under this cluster's name is refused (C10). The label
    /// begins with the time, for people, and ends in chance, so that two jobs of the same second are two backups.
    async fn place(&self, system_id: &str) -> Result<BackupRef, Error> {
        let chance = Uuid::now_v7().simple().to_string();
        let label = format!("{}-{}", clock::now().format("%Y%m%dT%H%M%SZ"), &chance[26..]);
        for repository in &self.repositories {
            let present = repository.system_ids(&self.cluster).await?;
            if let Some(other) = present.iter().find(|name| *name != system_id) {
                return Err(Error::Refused(format!(
                    "repository {} holds backups of system identifier {other} under the name {}, and this server is \
                     {system_id}: a new initdb or an upgrade; give it another cluster name, or move the old directory away",
                    repository.name, self.cluster
                )));
            }
        }
        Ok(BackupRef { cluster: self.cluster.clone(), system_id: system_id.to_owned(), label })
    }

    /// Refuses to begin what would fill a repository: the newest backup's size is the estimate, else a fifth of the data.
    async fn check_space(&self, before: &Inspection) -> Result<(), Error> {
        for repository in &self.repositories {
            let newest = repository.newest_good(&self.cluster).await?;
            let estimate = newest.map_or_else(|| before.databases.values().sum::<u64>() / 5, |info| info.stored_bytes);
            if let Some(free) = repository.storage.free_bytes().await?.filter(|free| *free < estimate) {
                return Err(Error::Refused(format!(
                    "repository {} has {} free, and the backup needs about {}: free space or add a repository",
                    repository.name,
                    human::size(free),
                    human::size(estimate)
                )));
            }
        }
        Ok(())
    }

    async fn take_into(
        &self,
        place: &BackupRef,
        before: Inspection,
        mut wal_connection: Replication,
    ) -> Result<Vec<(String, BackupInfo)>, Error> {
        for repository in &self.repositories {
            repository.begin(place, self.instance).await?;
        }
        let started_at = clock::now().trunc_subsecs(3);
        let slot = format!("pgbosun_{}", Uuid::now_v7().simple());
        wal_connection.temporary_slot(&slot).await?;
        let backup = Replication::connect(&self.server.conninfo, self.server.connect_timeout).await?;
        let options = BackupOptions { label: place.label.clone(), fast_checkpoint: self.fast_checkpoint };
        let (start, backup) = backup.base_backup(&options).await?;
        self.progress.expect(start.tablespaces.iter().map(|tablespace| tablespace.bytes).sum());

        let history =
            if start.timeline > 1 { Some(wal_connection.timeline_history(start.timeline).await?) } else { None };
        let segment_size = before.wal_segment_size;
        let stream = wal_connection.stream_wal(&slot, start.lsn.segment_start(segment_size), start.timeline).await?;
        let (stop, stop_known) = watch::channel(None::<Lsn>);
        // C14: the WAL is streamed beside the data, over a slot that keeps it; it ends with this function.
        let mut beside = JoinSet::new();
        let mut receiver =
            wal::Receiver::create(&self.repositories, place, start.timeline, segment_size, history).await?;
        beside.spawn(async move {
            receiver.receive(stream, stop_known).await?;
            receiver.finish().await
        });

        let (mut objects, end) = self.copy(place, backup, &mut beside).await?;
        let _ = stop.send(Some(end.lsn));
        let wal_objects = match beside.join_next().await {
            Some(Ok(received)) => received?,
            other => return Err(Error::Refused(format!("the WAL receiver ended: {other:?}"))),
        };
        for (objects, wal) in objects.iter_mut().zip(wal_objects) {
            objects.push(wal);
        }
        self.publish(place, before, &start, end, started_at, objects).await
    }

    /// Copies archives and manifest; returns the objects by repository, and where the backup is consistent.
    async fn copy(
        &self,
        place: &BackupRef,
        mut backup: BaseBackup,
        beside: &mut JoinSet<Result<Vec<Object>, Error>>,
    ) -> Result<(Vec<Vec<Object>>, BackupEnd), Error> {
        let mut objects = vec![Vec::new(); self.repositories.len()];
        let mut volumes: Vec<TarVolumes<'_>> = Vec::new();
        let mut manifests: Vec<PlainWriter> = Vec::new();
        loop {
            let event = tokio::select! {
                event = tokio::time::timeout(SILENCE, backup.next()) => event.map_err(|_| silent())??,
                Some(ended) = beside.join_next() => {
                    // Without its WAL the backup is worth nothing: there is no need to copy the rest.
                    return Err(match ended {
                        Ok(Err(error)) => error,
                        other => Error::Refused(format!("the WAL receiver ended: {other:?}")),
                    });
                }
            };
            match event {
                BackupEvent::Archive(tablespace) => {
                    finish_volumes(&mut volumes, &mut objects).await?;
                    let (prefix, kind) = match tablespace {
                        None => ("base".to_owned(), ObjectKind::Data),
                        Some(oid) => (format!("tablespace-{oid}"), ObjectKind::Tablespace(oid)),
                    };
                    volumes = self.repositories.iter().map(|r| TarVolumes::new(r, place, &prefix, kind)).collect();
                }
                BackupEvent::Data(data) => {
                    for volume in &mut volumes {
                        volume.write(&data).await?;
                    }
                    self.progress.add(data.len() as u64);
                }
                BackupEvent::Manifest(data) => {
                    if manifests.is_empty() {
                        finish_volumes(&mut volumes, &mut objects).await?;
                        for repository in &self.repositories {
                            let name = "backup_manifest";
                            manifests.push(PlainWriter::create(repository, place, name, ObjectKind::Manifest).await?);
                        }
                    }
                    for manifest in &mut manifests {
                        manifest.write(&data).await?;
                    }
                }
                BackupEvent::Progress(_) => {}
                BackupEvent::End(end) => {
                    finish_volumes(&mut volumes, &mut objects).await?;
                    for (objects, manifest) in objects.iter_mut().zip(manifests) {
                        objects.push(manifest.finish().await?);
                    }
                    return Ok((objects, end));
                }
            }
        }
    }

    async fn publish(
        &self,
        place: &BackupRef,
        before: Inspection,
        start: &BackupStart,
        end: BackupEnd,
        started_at: chrono::DateTime<chrono::Utc>,
        objects: Vec<Vec<Object>>,
    ) -> Result<Vec<(String, BackupInfo)>, Error> {
        let hosts: Vec<_> = self.server.conninfo.hosts.iter().map(ToString::to_string).collect();
        let mut stored = Vec::new();
        let tablespaces = start.tablespaces.iter();
        let info = BackupInfo {
            format: FORMAT,
            label: place.label.clone(),
            cluster: place.cluster.clone(),
            system_id: place.system_id.clone(),
            kind: "full".into(),
            server: hosts.join(","),
            superuser: before.superuser,
            server_version: before.version,
            program_version: env!("CARGO_PKG_VERSION").into(),
            started_at,
            finished_at: clock::now().trunc_subsecs(3),
            start_lsn: start.lsn,
            stop_lsn: end.lsn,
            start_timeline: start.timeline,
            timeline: end.timeline,
            wal_segment_size: before.wal_segment_size,
            databases: before.databases,
            settings: before.settings,
            tablespaces: tablespaces.map(|t| TablespaceInfo { oid: t.oid, location: t.location.clone() }).collect(),
            checksum_failures: end.checksum_failures,
            bytes: 0,
            stored_bytes: 0,
            compression: "zstd".into(),
            objects: Vec::new(),
            checksum: String::new(),
        };
        for (repository, mut objects) in self.repositories.iter().zip(objects) {
            if !before.config_files.is_empty() {
                objects.push(config_volume(repository, place, &before.config_files).await?);
            }
            let mut info = info.clone();
            info.bytes = objects.iter().map(|object| object.plain_size).sum();
            info.stored_bytes = objects.iter().map(|object| object.size).sum();
            info.objects = objects;
            repository.publish(place, &info).await?;
            stored.push((repository.name.clone(), info));
        }
        Ok(stored)
    }
}

/// A server that says nothing for so long in the middle of a backup is gone; while it works it reports every second.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);

/// The error of a server that fell silent.
pub(crate) fn silent() -> Error {
    pgbosun_postgres::Error::Timeout { what: "waiting for the server during the backup".into(), limit: SILENCE }.into()
}

async fn finish_volumes(volumes: &mut Vec<TarVolumes<'_>>, objects: &mut [Vec<Object>]) -> Result<(), Error> {
    for (volume, objects) in volumes.drain(..).zip(objects) {
        objects.extend(volume.finish().await?);
    }
    Ok(())
}

async fn config_volume(
    repository: &Repository,
    place: &BackupRef,
    files: &[(&'static str, String)],
) -> Result<Object, Error> {
    let mut volume = VolumeWriter::create(repository, place, "config.tar.zst", ObjectKind::Config).await?;
    for (name, text) in files {
        volume.add_file(name, text.as_bytes()).await?;
    }
    Ok(volume.finish().await?)
}
