//! The first source of a backup: `BASE_BACKUP`, from the server's stream into volumes.

use super::{SILENCE, silent};
use crate::{Error, Progress};
use pgbosun_postgres::replication::{BackupEnd, BackupEvent, BaseBackup};
use pgbosun_repository::{Destinations, ObjectKind, PlainWriter, TarVolumes, Written};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinHandle};

/// Messages of the server that may wait to be stored.
const QUEUE: usize = 64;

/// Copies archives and manifest; returns what was written, and where the backup is consistent.
///
/// Reading from the server and storing are two tasks, so that neither waits for the other's processor.
pub(super) async fn copy(
    to: &Arc<Destinations>,
    progress: &Arc<Progress>,
    mut backup: BaseBackup,
) -> Result<(Written, BackupEnd), Error> {
    let (events, waiting) = mpsc::channel(QUEUE);
    let storing = Task(to.tasks().spawn(store(Arc::clone(to), waiting)));
    loop {
        let event = tokio::time::timeout(SILENCE, backup.next()).await.map_err(|_| silent())?.map_err(explained)?;
        match event {
            BackupEvent::End(end) => {
                drop(events);
                return Ok((storing.join().await?, end));
            }
            BackupEvent::Progress(_) => {}
            event => {
                if let BackupEvent::Data(data) = &event {
                    progress.add(data.len() as u64);
                }
                if events.send(event).await.is_err() {
                    // It ended early, which it does only with an error.
                    return Err(storing.join().await.err().unwrap_or(Error::Cancelled));
                }
            }
        }
    }
}

/// What writes a header in the server, and refuses it where the name or the link is too long.
const TAR_HEADER: &str = "_tarWriteHeader";

/// The server's tar holds no name past 99 bytes, and its words do not say what would. It has no SQLSTATE for that, and says it in
/// its own language: the name of its function is the same everywhere.
fn explained(error: pgbosun_postgres::Error) -> Error {
    match error {
        pgbosun_postgres::Error::Refused { message, routine, .. } if routine == TAR_HEADER => Error::Refused(format!(
            "the server cannot send a name or a link of 100 bytes or more: {message}. Rename it, or run pgbosun on the \
                 server's machine with source = \"files\""
        )),
        error => error.into(),
    }
}

/// A task that ends with its owner.
struct Task(JoinHandle<Result<Written, Error>>);

impl Task {
    async fn join(mut self) -> Result<Written, Error> {
        (&mut self.0).await.unwrap_or_else(|error| Err(Error::broke_off("storing")(error)))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn store(to: Arc<Destinations>, mut events: mpsc::Receiver<BackupEvent>) -> Result<Written, Error> {
    let mut written = Written::default();
    let mut volumes: Option<TarVolumes> = None;
    let mut manifest: Option<PlainWriter> = None;
    while let Some(event) = events.recv().await {
        match event {
            BackupEvent::Archive(tablespace) => {
                if let Some(volumes) = volumes.take() {
                    written.extend(volumes.finish().await?);
                }
                volumes = Some(TarVolumes::new(&to, tablespace));
            }
            BackupEvent::Data(data) => {
                if let Some(volumes) = &mut volumes {
                    volumes.write(data).await?;
                }
            }
            BackupEvent::Manifest(data) => {
                let mut writer = match manifest.take() {
                    Some(writer) => writer,
                    None => PlainWriter::create(&to, "backup_manifest", ObjectKind::Manifest).await?,
                };
                writer.write(&data).await?;
                manifest = Some(writer);
            }
            BackupEvent::Progress(_) | BackupEvent::End(_) => {}
        }
    }
    if let Some(volumes) = volumes {
        written.extend(volumes.finish().await?);
    }
    if let Some(manifest) = manifest {
        written.extend(manifest.finish().await?);
    }
    Ok(written)
}
