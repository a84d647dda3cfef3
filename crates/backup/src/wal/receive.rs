//! Receiving WAL as it is written, over a slot, for a recovery point of seconds.
//!
//! C6: what is reported as flushed is fsynced in the partial segment here first; a whole segment is handed to the archive,
//! and its partial file goes only when that has it. A slot of ours never holds back more than its limit.

use super::{Pusher, beside::alive, segment};
use crate::Error;
use pgbosun_core::{
    human,
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_postgres::{
    Server,
    replication::{Replication, WalChunk},
};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Receives the WAL of one cluster.
#[derive(Clone, Debug)]
pub struct Receive {
    /// Its servers.
    pub server: Server,
    /// Takes whole segments.
    pub pusher: Pusher,
    /// Where the segment that is being written lies.
    pub directory: PathBuf,
    /// The slot's name.
    pub slot: String,
    /// The most the slot may hold back, bytes.
    pub slot_limit: u64,
    /// Told how far it is.
    pub lag: Arc<Lag>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// How far a receiver is behind.
#[derive(Debug, Default)]
pub struct Lag {
    flushed: AtomicU64,
    server: AtomicU64,
}

impl Lag {
    /// Durable here up to, and the server's own position.
    pub fn positions(&self) -> (Lsn, Lsn) {
        (Lsn(self.flushed.load(Ordering::Relaxed)), Lsn(self.server.load(Ordering::Relaxed)))
    }
}

/// How the name of a partial segment ends that an earlier receiver left.
pub(super) const EARLIER: &str = "earlier";

/// How long WAL may lie in memory before it is fsynced.
const FSYNC_EVERY: Duration = Duration::from_millis(200);

/// The segment that is being received.
struct Partial {
    file: File,
    path: PathBuf,
    segment: Segment,
    written: u64,
}

impl Receive {
    /// Receives until it is cancelled. Returns with an error when the connection breaks; the caller begins anew.
    ///
    /// # Errors
    /// What broke it.
    pub async fn run(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.directory).map_err(Error::file("create", &self.directory))?;
        self.push_leftovers().await?;
        let (server, _) = crate::member(&self.server, false).await?;
        self.check_slot(&server).await?;
        let mut connection = Replication::connect(&server.conninfo, server.connect_timeout).await?;
        let identity = connection.identify().await?;
        if identity.system_id != self.pusher.system_id {
            return Err(Error::Refused(format!(
                "the server has system identifier {}, but the archive belongs to {}",
                identity.system_id, self.pusher.system_id
            )));
        }
        if connection.lasting_slot(&self.slot).await? {
            tracing::info!(slot = self.slot, "replication slot created: it keeps WAL from now on");
        }
        let size = segment_size(&mut connection).await?;
        let (mut start, mut timeline) = self.start(&mut connection, size, identity.position, identity.timeline).await?;
        loop {
            if timeline > 1 {
                let (name, text) = connection.timeline_history(timeline).await?;
                self.archive_history(&name, &text).await?;
            }
            tracing::info!(slot = self.slot, timeline, "receiving WAL from {start}");
            let mut stream = connection.stream_wal(Some(&self.slot), start, timeline).await?;
            let mut partial: Option<Partial> = None;
            let mut synced = Instant::now();
            let ended = loop {
                let chunk = tokio::select! {
                    chunk = stream.next() => chunk?,
                    () = tokio::time::sleep(FSYNC_EVERY), if partial.is_some() => {
                        self.sync(&mut partial, size, &mut stream).await?;
                        synced = Instant::now();
                        continue;
                    }
                    () = self.cancel.cancelled() => {
                        self.sync(&mut partial, size, &mut stream).await?;
                        return Ok(());
                    }
                };
                let Some(chunk) = chunk else { break stream };
                self.lag.server.store(stream.server_position().0, Ordering::Relaxed);
                self.write(chunk, timeline, size, &mut partial, &mut stream).await?;
                if synced.elapsed() >= FSYNC_EVERY {
                    self.sync(&mut partial, size, &mut stream).await?;
                    synced = Instant::now();
                }
            };
            // The timeline ended: what was received of its last segment is archived as .partial, as PostgreSQL does.
            let mut stream = ended;
            self.sync(&mut partial, size, &mut stream).await?;
            if let Some(partial) = partial.take() {
                self.archive_partial(&partial, size).await?;
            }
            (connection, timeline, start) = stream.end().await?;
            start = start.segment_start(size);
        }
    }

    /// C6: where to begin: after what is here or in the archive, else where the slot keeps WAL from, else at the server's
    /// own position.
    async fn start(
        &self,
        connection: &mut Replication,
        size: u64,
        position: Lsn,
        timeline: u32,
    ) -> Result<(Lsn, u32), Error> {
        let slot = connection.slot_position(&self.slot).await?;
        let mut here = newest_partial(&self.directory);
        if let Some((repository, _)) = self.pusher.repositories.first() {
            let archive = pgbosun_repository::WalArchive::new(repository, &self.pusher.cluster, &self.pusher.system_id);
            let archived = archive.list().await?.into_iter().filter_map(|object| match object.file {
                WalFile::Segment(segment) => Some(segment.next(size)),
                _ => None,
            });
            here = here.max(archived.max());
        }
        let (slot_lsn, slot_timeline) = slot.unwrap_or((position, timeline));
        Ok(match here {
            // Never before what the slot still has, and never past the server.
            Some(next) if next.timeline <= timeline && next.start(size) <= position => {
                (next.start(size).max(slot_lsn.segment_start(size)), next.timeline.max(slot_timeline.min(timeline)))
            }
            _ => (slot_lsn.segment_start(size), slot_timeline),
        })
    }

    async fn write(
        &self,
        chunk: WalChunk,
        timeline: u32,
        size: u64,
        partial: &mut Option<Partial>,
        stream: &mut pgbosun_postgres::replication::WalStream,
    ) -> Result<(), Error> {
        let (mut at, mut data) = (chunk.start, &chunk.data[..]);
        while !data.is_empty() {
            let segment = Segment::holding(at, timeline, size);
            if partial.as_ref().is_none_or(|partial| partial.segment != segment) {
                *partial = Some(self.open(segment)?);
            }
            let Some(current) = partial.as_mut() else { continue };
            let within = at.0 - segment.start(size).0;
            if within != current.written {
                return Err(Error::Interrupted(format!(
                    "the server sent WAL from {at}, which is not the next position"
                )));
            }
            let take = usize::try_from(size - within).unwrap_or(usize::MAX).min(data.len());
            current.file.write_all(&data[..take]).map_err(Error::file("write", &current.path))?;
            current.written += take as u64;
            at = Lsn(at.0 + take as u64);
            data = &data[take..];
            if current.written == size {
                self.sync(partial, size, stream).await?;
                if let Some(whole) = partial.take() {
                    alive(stream, self.archive(whole)).await?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, segment: Segment) -> Result<Partial, Error> {
        let path = self.directory.join(format!("{segment}.partial"));
        // What an earlier receiver has acknowledged stays until this one has more.
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let earlier = path.with_extension(EARLIER);
        if length(&path) > length(&earlier) {
            fs::rename(&path, &earlier).map_err(Error::file("rename", &path))?;
        }
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        sync_directory(&self.directory)?;
        Ok(Partial { file, path, segment, written: 0 })
    }

    /// C6: fsynced first, reported afterwards.
    async fn sync(
        &self,
        partial: &mut Option<Partial>,
        size: u64,
        stream: &mut pgbosun_postgres::replication::WalStream,
    ) -> Result<(), Error> {
        let Some(partial) = partial.as_mut() else { return Ok(()) };
        let position = partial.segment.start(size).0 + partial.written;
        // What this stream told, not an earlier one: after a break the same position must be told again.
        if stream.flushed_position() == Lsn(position) {
            return Ok(());
        }
        let file = partial.file.try_clone().map_err(Error::file("sync", &partial.path))?;
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(Error::file("sync", &partial.path))?;
        let earlier = partial.path.with_extension(EARLIER);
        if fs::metadata(&earlier).is_ok_and(|metadata| metadata.len() <= partial.written) {
            fs::remove_file(&earlier).map_err(Error::file("remove", &earlier))?;
        }
        self.lag.flushed.store(position, Ordering::Relaxed);
        stream.flushed(Lsn(position));
        stream.report().await?;
        Ok(())
    }

    /// A whole segment: under its own name, then into the archive, then gone from here.
    async fn archive(&self, whole: Partial) -> Result<(), Error> {
        let path = self.directory.join(whole.segment.to_string());
        fs::rename(&whole.path, &path).map_err(Error::file("rename", &path))?;
        sync_directory(&self.directory)?;
        self.push(&path).await
    }

    async fn push(&self, path: &Path) -> Result<(), Error> {
        self.pusher.push(path).await?;
        fs::remove_file(path).map_err(Error::file("remove", path))
    }

    /// What an earlier receiver had whole and could not hand over.
    async fn push_leftovers(&self) -> Result<(), Error> {
        let mut names: Vec<_> = fs::read_dir(&self.directory)
            .map_err(Error::file("list", &self.directory))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                matches!(WalFile::parse(&name), Some(WalFile::Segment(_)))
            })
            .collect();
        names.sort();
        for path in names {
            self.push(&path).await?;
        }
        Ok(())
    }

    /// The end of a timeline: filled up with zeros under the name PostgreSQL gives it.
    async fn archive_partial(&self, partial: &Partial, size: u64) -> Result<(), Error> {
        if partial.written == 0 {
            return Ok(());
        }
        partial.file.set_len(size).map_err(Error::file("write", &partial.path))?;
        partial.file.sync_all().map_err(Error::file("sync", &partial.path))?;
        match self.push(&partial.path).await {
            // The archive may have the whole of it already, from the server itself.
            Err(Error::Repository(pgbosun_repository::Error::Conflict { object, .. })) => {
                tracing::info!(file = object, "already archived");
                fs::remove_file(&partial.path).map_err(Error::file("remove", &partial.path))
            }
            other => other,
        }
    }

    async fn archive_history(&self, name: &str, text: &[u8]) -> Result<(), Error> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        self.push(&path).await
    }

    /// A slot of ours must never fill the server's disk.
    async fn check_slot(&self, server: &Server) -> Result<(), Error> {
        let mut connection = server.connect().await?;
        let retained: Option<Option<i64>> = sqlx::query_scalar(include_str!("receive/retained.sql"))
            .bind(&self.slot)
            .fetch_optional(&mut connection)
            .await
            .map_err(Error::query("read how much WAL the slot holds back"))?;
        let too_much = retained.flatten().is_some_and(|bytes| bytes.unsigned_abs() > self.slot_limit && bytes > 0);
        if too_much {
            let dropped = sqlx::query("select pg_catalog.pg_drop_replication_slot($1)").bind(&self.slot);
            dropped.execute(&mut connection).await.map_err(Error::query("drop the slot"))?;
            tracing::error!(
                slot = self.slot,
                "the slot held back more than {} and was dropped: WAL is missing from here on, take a new backup",
                human::size(self.slot_limit)
            );
        }
        let _ = sqlx::Connection::close(connection).await;
        Ok(())
    }
}

fn newest_partial(directory: &Path) -> Option<Segment> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let partial = entries.filter_map(|entry| match WalFile::parse(&entry.file_name().to_string_lossy()) {
        Some(WalFile::Partial(segment)) => Some(segment),
        _ => None,
    });
    partial.max()
}

async fn segment_size(connection: &mut Replication) -> Result<u64, Error> {
    let rows = connection.query("SHOW wal_segment_size").await?;
    let text = rows.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => 1,
    };
    let size = number.parse::<u64>().ok().map(|number| number * factor).filter(|size| *size > 0);
    size.ok_or_else(|| Error::Refused(format!("the server reports an invalid wal_segment_size, \"{text}\"")))
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(Error::file("sync", directory))
}

/// The system identifier of a data directory on this machine, or the server's own answer.
///
/// # Errors
/// Where neither can be had.
pub async fn system_id_of(server: &Server, data_directory: Option<&Path>) -> Result<String, Error> {
    if let Some(Ok(identifier)) = data_directory.map(segment::system_identifier) {
        return Ok(identifier);
    }
    Ok(server.system_id().await?)
}
