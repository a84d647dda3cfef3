//! `BASE_BACKUP` as of PostgreSQL 15: one stream with archives, manifest and progress in it.

use super::connection::{Replication, columns, payload, unexpected};
use crate::Error;
use bytes::{Buf, Bytes};
use pgbosun_core::lsn::Lsn;
use postgres_protocol::message::backend::Message;

/// What is asked of the server.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Written into `backup_label`.
    pub label: String,
    /// Checkpoint at once instead of spread over `checkpoint_completion_target`.
    pub fast_checkpoint: bool,
    /// The most the server sends in a second, bytes; it takes 32 KiB to 1 GiB.
    pub max_rate: Option<u64>,
    /// Send only what changed since the backup whose manifest was uploaded on this connection (C23).
    pub incremental: bool,
}

/// Where a backup starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStart {
    /// First WAL position needed.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// The tablespaces outside the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Estimated size of everything, bytes.
    pub bytes: u64,
}

/// A tablespace outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tablespace {
    /// Object identifier.
    pub oid: u32,
    /// Where it lies on the server.
    pub location: String,
}

/// Where a backup is consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupEnd {
    /// WAL is needed up to here.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// C15: the server found pages whose checksum is wrong.
    pub checksum_failures: bool,
}

/// One step of the stream.
#[derive(Debug)]
pub enum BackupEvent {
    /// A new tar archive begins: the data directory, or the tablespace of this identity.
    Archive(Option<u32>),
    /// Bytes of the current archive.
    Data(Bytes),
    /// Bytes of the backup manifest, which comes after all archives.
    Manifest(Bytes),
    /// Bytes the server has done so far.
    Progress(u64),
    /// The stream is complete.
    End(BackupEnd),
}

/// A running `BASE_BACKUP`.
pub struct BaseBackup {
    connection: Replication,
    in_manifest: bool,
    copy_done: bool,
}

impl Replication {
    /// Hands the manifest of an earlier backup to the server, for an incremental one on this connection (C23).
    ///
    /// # Errors
    /// The server's refusal, where it is older than 17 for one, or a broken connection.
    pub async fn upload_manifest(&mut self, manifest: &[u8]) -> Result<(), Error> {
        self.send("UPLOAD_MANIFEST").await?;
        match self.message().await? {
            Message::CopyInResponse(_) => {}
            _ => return Err(unexpected("answer to UPLOAD_MANIFEST")),
        }
        for piece in manifest.chunks(1 << 16) {
            self.send_copy_data(piece).await?;
        }
        self.send_copy_done().await?;
        while !matches!(self.message().await?, Message::ReadyForQuery(_)) {}
        Ok(())
    }

    /// Starts a base backup. Returns once the server has made its checkpoint.
    ///
    /// It does not wait for the archive: the WAL is streamed beside it, and an archive that fails is another alert.
    ///
    /// Tablespaces come as links in the archive, not as a `tablespace_map`: so a restore can place them elsewhere and
    /// every file still is what the manifest says (C12).
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn base_backup(mut self, options: &BackupOptions) -> Result<(BackupStart, BaseBackup), Error> {
        let mut command = format!(
            "BASE_BACKUP (LABEL '{}', CHECKPOINT '{}', WAL false, WAIT false, TABLESPACE_MAP false, PROGRESS true, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS true",
            options.label.replace('\'', "''"),
            if options.fast_checkpoint { "fast" } else { "spread" },
        );
        if let Some(rate) = options.max_rate {
            command.push_str(&format!(", MAX_RATE {}", (rate / 1024).clamp(32, 1 << 20)));
        }
        command.push_str(if options.incremental { ", INCREMENTAL)" } else { ")" });
        self.send(&command).await?;
        let mut sets: Vec<Vec<Vec<Option<String>>>> = Vec::new();
        loop {
            match self.message().await? {
                Message::RowDescription(_) => sets.push(Vec::new()),
                Message::DataRow(row) => sets.last_mut().ok_or_else(|| unexpected("row"))?.push(columns(&row)?),
                Message::CopyOutResponse(_) => break,
                Message::CommandComplete(_) => {}
                _ => return Err(unexpected("message before the backup")),
            }
        }
        let start = start_of(&sets).ok_or_else(|| unexpected("start of the backup"))?;
        Ok((start, BaseBackup { connection: self, in_manifest: false, copy_done: false }))
    }
}

fn start_of(sets: &[Vec<Vec<Option<String>>>]) -> Option<BackupStart> {
    let position = sets.first()?.first()?;
    let rows = sets.get(1)?;
    // The data directory itself has neither identity nor location.
    let tablespaces = rows.iter().filter_map(|row| {
        let (oid, location) = (row.first()?.as_ref()?, row.get(1)?.clone()?);
        Some(Tablespace { oid: oid.parse().ok()?, location })
    });
    let kilobytes = rows.iter().filter_map(|row| row.get(2)?.as_ref()?.parse::<u64>().ok());
    Some(BackupStart {
        lsn: position.first()?.as_ref()?.parse().ok()?,
        timeline: position.get(1)?.as_ref()?.parse().ok()?,
        tablespaces: tablespaces.collect(),
        bytes: kilobytes.fold(0, u64::saturating_add).saturating_mul(1024),
    })
}

impl BaseBackup {
    /// The next step; after [`BackupEvent::End`] there is none.
    ///
    /// # Errors
    /// The server's refusal or a broken connection: the backup is void.
    pub async fn next(&mut self) -> Result<BackupEvent, Error> {
        while !self.copy_done {
            match self.connection.message().await? {
                Message::CopyData(body) => {
                    if let Some(event) = self.event(payload(body))? {
                        return Ok(event);
                    }
                }
                Message::CopyDone => self.copy_done = true,
                _ => return Err(unexpected("message within the backup")),
            }
        }
        self.end().await.map(BackupEvent::End)
    }

    fn event(&mut self, mut data: Bytes) -> Result<Option<BackupEvent>, Error> {
        if data.is_empty() {
            return Err(unexpected("empty message within the backup"));
        }
        match data.get_u8() {
            b'n' => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name);
                Ok(Some(BackupEvent::Archive(name.strip_suffix(".tar").and_then(|oid| oid.parse().ok()))))
            }
            b'm' => {
                self.in_manifest = true;
                Ok(None)
            }
            b'd' if self.in_manifest => Ok(Some(BackupEvent::Manifest(data))),
            b'd' => Ok(Some(BackupEvent::Data(data))),
            b'p' if data.len() >= 8 => Ok(Some(BackupEvent::Progress(data.get_u64()))),
            _ => Err(unexpected("kind of message within the backup")),
        }
    }

    /// The stop position, and C15: a checksum failure arrives as an error behind it, at the very end.
    async fn end(&mut self) -> Result<BackupEnd, Error> {
        let mut end = None;
        loop {
            match self.connection.message().await {
                Ok(Message::DataRow(row)) => {
                    let row = columns(&row)?;
                    let lsn = row.first().and_then(|lsn| lsn.as_ref()?.parse().ok());
                    let timeline = row.get(1).and_then(|timeline| timeline.as_ref()?.parse().ok());
                    end = lsn.zip(timeline);
                }
                Ok(Message::ReadyForQuery(_)) => {
                    let (lsn, timeline) = end.ok_or_else(|| unexpected("end of the backup"))?;
                    return Ok(BackupEnd { lsn, timeline, checksum_failures: false });
                }
                Ok(_) => {}
                Err(error) => match (end, &error) {
                    (Some((lsn, timeline)), Error::Refused { code, .. }) if code == "XX001" => {
                        return Ok(BackupEnd { lsn, timeline, checksum_failures: true });
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}
