//! The second source of a backup: the data directory itself, read while the server is in backup mode.
//!
//! One replication stream is one process of the server. Here several files are read, checked and compressed at once, into
//! volumes of the same format. What `BASE_BACKUP` sees to is then ours: what is left out (C13, `list`), torn pages and
//! checksums (C15, `pages`), `pg_control` last (`control`), the label the server returned (C12), the manifest.

mod control;
mod directory;
mod list;
mod pages;
mod read;

pub(crate) use directory::DataDirectory;

use crate::{Error, Progress, manifest, pace::Pace};
use chrono::SubsecRound;
use control::Control;
use list::Listing;
use pgbosun_core::{clock, lsn::Lsn};
use pgbosun_postgres::{
    Server,
    replication::{BackupEnd, BackupOptions, BackupStart},
};
use pgbosun_repository::{Destinations, ObjectKind, PlainWriter, VolumeWriter, Written};
use read::{Queue, Reader, Step};
use sqlx::{Connection, PgConnection};
use std::{path::PathBuf, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet};

/// Chunks of a worker that may wait to be stored.
const AHEAD: usize = 8;

/// What the tasks here do.
const READING: &str = "reading the data directory";

/// A server in backup mode, and its data directory. The session must live as long: when it ends, so does backup mode.
pub(super) struct Files {
    data: DataDirectory,
    session: PgConnection,
    start: Lsn,
    timeline: u32,
    listing: Listing,
    workers: usize,
    max_rate: Option<u64>,
}

impl Files {
    /// Puts the server into backup mode and looks what there is to copy. Returns once it has made its checkpoint.
    pub async fn start(
        data: DataDirectory,
        server: &Server,
        options: &BackupOptions,
        workers: usize,
    ) -> Result<(BackupStart, Self), Error> {
        let mut session = server.connect().await?;
        let failed = || Error::query("start the backup");
        // It waits for the checkpoint, and then is idle for hours.
        sqlx::raw_sql(include_str!("files/session.sql")).execute(&mut session).await.map_err(failed())?;
        let start: String = sqlx::query_scalar(include_str!("files/start.sql"))
            .bind(&options.label)
            .bind(options.fast_checkpoint)
            .fetch_one(&mut session)
            .await
            .map_err(failed())?;
        let start = start.parse().map_err(|_| {
            Error::Refused(format!(
                "the server reports the start of the backup at {start}, \
            which is not a WAL position"
            ))
        })?;
        if !data.is_served_by(&mut session).await? {
            return Err(not_its_own(&data, start));
        }
        let looking = data.clone();
        let listed = tokio::task::spawn_blocking(move || {
            // Its own checkpoint must be here by now: else this is the data directory of another server.
            let control = Control::read(looking.root())?;
            if control.redo < start {
                return Err(not_its_own(&looking, start));
            }
            Ok((control.timeline, Listing::of(&looking, control.catalogue)?))
        });
        let (timeline, listing) = listed.await.map_err(Error::broke_off(READING))??;
        let begun =
            BackupStart { lsn: start, timeline, tablespaces: listing.tablespaces.clone(), bytes: listing.bytes };
        let max_rate = options.max_rate;
        Ok((begun, Self { data, session, start, timeline, listing, workers: workers.max(1), max_rate }))
    }

    /// Copies everything, ends backup mode and writes the manifest.
    pub async fn copy(self, to: &Arc<Destinations>, progress: &Arc<Progress>) -> Result<(Written, BackupEnd), Error> {
        let Self { data, mut session, start, timeline, listing, workers, max_rate } = self;
        let reader = Arc::new(Reader {
            queue: Queue::new(listing.units, to.volume_size()),
            root: data.root().to_owned(),
            checked_from: data.checksums.then_some(start),
            pace: Pace::new(max_rate),
            progress: Arc::clone(progress),
            failures: Default::default(),
        });
        let mut written = Written::default();
        let mut files = Vec::new();
        // Dropping the set gives the work up: the readers end when nobody listens.
        let mut working = JoinSet::new();
        for _ in 0..workers {
            working.spawn(to.tasks().track_future(work(Arc::clone(&reader), Arc::clone(to))));
        }
        while let Some(done) = working.join_next().await {
            let (volumes, contents) = done.map_err(Error::broke_off(READING))??;
            written.extend(volumes);
            files.extend(contents);
        }
        let (name, kind) = reader.queue.volume(None);
        let mut last = VolumeWriter::create(to, &name, kind).await?;
        // On a standby everything that was copied lies before what pg_control says now: so it is read last (C14).
        let control = tokio::task::spawn_blocking(move || {
            let control = Control::read(data.root())?;
            // What cannot be seen any more was not read either.
            match data.hidden_tablespace(control.catalogue) {
                Some(path) => {
                    Err(Error::Interrupted(format!("the tablespace {} can no longer be seen", path.display())))
                }
                None => Ok((control, data.server_version)),
            }
        });
        let (control, server_version) = control.await.map_err(Error::broke_off(READING))??;
        let (end, label) = stop(&mut session, &reader).await?;
        if !label.contains(&format!("START WAL LOCATION: {start} "))
            || !label.contains(&format!("TIMELINE: {timeline}\n"))
        {
            return Err(Error::Refused(format!(
                "backup_label is not that of a backup from {start} on timeline {timeline}: {label}"
            )));
        }
        let _ = session.close().await;
        for (name, bytes) in [("global/pg_control", control.bytes.as_slice()), ("backup_label", label.as_bytes())] {
            last.add_file(name, bytes).await?;
            let (path, size, modified) = (PathBuf::from(name), bytes.len() as u64, clock::now().trunc_subsecs(0));
            files.push(manifest::Written { path, size, modified, crc32c: crc32c::crc32c(bytes) });
        }
        written.extend(last.finish().await?);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let range = manifest::WalRange { timeline, start, end: end.lsn };
        let manifest = manifest::write(&files, range, server_version, &to.place().system_id);
        let mut writer = PlainWriter::create(to, "backup_manifest", ObjectKind::Manifest).await?;
        writer.write(&manifest).await?;
        written.extend(writer.finish().await?);
        Ok((written, end))
    }
}

fn not_its_own(data: &DataDirectory, start: Lsn) -> Error {
    Error::Refused(format!(
        "{} is not the data directory of the server that is being backed up from {start} on: set source = \"stream\"",
        data.root().display()
    ))
}

/// Ends backup mode: where the backup is consistent, and its label (C12).
async fn stop(session: &mut PgConnection, reader: &Reader) -> Result<(BackupEnd, String), Error> {
    let stopped: Result<(String, String, i32), _> =
        sqlx::query_as(include_str!("files/stop.sql")).fetch_one(session).await;
    let (lsn, label, timeline) = stopped.map_err(Error::query("end the backup"))?;
    let lsn = lsn.parse().map_err(|_| {
        Error::Refused(format!(
            "the server reports the end of the backup at {lsn}, which is not \
        a WAL position"
        ))
    })?;
    let checksum_failures = reader.failures.load(std::sync::atomic::Ordering::Relaxed) > 0;
    Ok((BackupEnd { lsn, timeline: timeline.unsigned_abs(), checksum_failures }, label))
}

/// One worker: a thread reads and checks, a task compresses and stores.
async fn work(reader: Arc<Reader>, to: Arc<Destinations>) -> Result<(Written, Vec<manifest::Written>), Error> {
    let (steps, coming) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || reader.read(&steps));
    let stored = store(&to, coming).await;
    let read = reading.await.map_err(Error::broke_off(READING))?;
    // A reader that nobody listens to any more says only that it was given up.
    let written = stored?;
    Ok((written, read?))
}

async fn store(to: &Arc<Destinations>, mut coming: mpsc::Receiver<Step>) -> Result<Written, Error> {
    let mut written = Written::default();
    let mut volume: Option<VolumeWriter> = None;
    while let Some(step) = coming.recv().await {
        match (step, &mut volume) {
            (Step::Volume { name, kind }, open) => {
                if let Some(full) = open.take() {
                    written.extend(full.finish().await?);
                }
                *open = Some(VolumeWriter::create(to, &name, kind).await?);
            }
            (Step::Entry { name, header }, Some(volume)) => {
                volume.file(&name);
                volume.write(&header).await?;
            }
            (Step::Contents(bytes), Some(volume)) => volume.write(&bytes).await?,
            (_, None) => return Err(Error::Interrupted("a file came before its volume".into())),
        }
    }
    if let Some(last) = volume {
        written.extend(last.finish().await?);
    }
    Ok(written)
}
