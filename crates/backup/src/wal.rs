//! The WAL of one backup, streamed beside it into a tar of whole segments (C14).

use crate::{
    Error,
    physical::{SILENCE, silent},
};
use pgbosun_core::lsn::Lsn;
use pgbosun_postgres::replication::WalStream;
use pgbosun_repository::{BackupRef, Object, ObjectKind, Repository, VolumeWriter};
use std::time::Duration;
use tokio::sync::watch;

/// Receives WAL into one volume per repository.
pub(crate) struct Receiver {
    volumes: Vec<VolumeWriter>,
    timeline: u32,
    segment_size: u64,
    /// The position up to which WAL is written; the start of a segment before the first byte.
    position: Option<Lsn>,
}

impl Receiver {
    /// Begins the volumes, with the timeline's history file where it has one.
    pub async fn create(
        repositories: &[Repository],
        place: &BackupRef,
        timeline: u32,
        segment_size: u64,
        history: Option<(String, String)>,
    ) -> Result<Self, Error> {
        let mut volumes = Vec::new();
        for repository in repositories {
            let mut volume = VolumeWriter::create(repository, place, "wal.0001.tar.zst", ObjectKind::Wal).await?;
            if let Some((name, text)) = &history {
                volume.add_file(name, text.as_bytes()).await?;
            }
            volumes.push(volume);
        }
        Ok(Self { volumes, timeline, segment_size, position: None })
    }

    /// Receives until everything before the stop position is written, which is known only later.
    pub async fn receive(
        &mut self,
        mut stream: WalStream,
        mut stop: watch::Receiver<Option<Lsn>>,
    ) -> Result<(), Error> {
        loop {
            if let (Some(stop), Some(position)) = (*stop.borrow_and_update(), self.position)
                && position >= stop
            {
                return Ok(());
            }
            // While the backup goes on an idle server has no WAL to send; once it has ended, what is missing must come.
            let patience = if stop.borrow().is_some() { SILENCE } else { Duration::MAX };
            let chunk = tokio::select! {
                chunk = stream.next() => chunk?,
                () = tokio::time::sleep(patience) => return Err(silent()),
                changed = stop.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Err(Error::Cancelled),
                },
            };
            let expected = self.position.unwrap_or(chunk.start);
            if chunk.start != expected {
                let message = format!("the server sent WAL from {} where {expected} was next", chunk.start);
                return Err(pgbosun_postgres::Error::Protocol(message).into());
            }
            self.write(chunk.start, &chunk.data).await?;
            // C6: what is reported is what was taken over; the volume itself becomes durable with the backup.
            stream.flushed(chunk.start);
        }
    }

    async fn write(&mut self, start: Lsn, mut data: &[u8]) -> Result<(), Error> {
        let mut at = start.0;
        while !data.is_empty() {
            let within = at % self.segment_size;
            if within == 0 {
                let name = Lsn(at).segment_name(self.timeline, self.segment_size);
                for volume in &mut self.volumes {
                    volume.begin_file(&name, self.segment_size).await?;
                }
            }
            let left = usize::try_from(self.segment_size - within).unwrap_or(usize::MAX);
            let (piece, rest) = data.split_at(left.min(data.len()));
            for volume in &mut self.volumes {
                volume.write(piece).await?;
            }
            at += piece.len() as u64;
            data = rest;
        }
        self.position = Some(Lsn(at));
        Ok(())
    }

    /// Fills the last segment with zeros, as the server does itself, and makes the volumes durable.
    pub async fn finish(mut self) -> Result<Vec<Object>, Error> {
        let zeros = vec![0; 1 << 16];
        let mut left = match self.position.map(|position| position.0 % self.segment_size) {
            None | Some(0) => 0,
            Some(within) => self.segment_size - within,
        };
        while left > 0 {
            let piece = zeros.len().min(usize::try_from(left).unwrap_or(zeros.len()));
            for volume in &mut self.volumes {
                volume.write(&zeros[..piece]).await?;
            }
            left -= piece as u64;
        }
        let mut objects = Vec::new();
        for volume in self.volumes.drain(..) {
            objects.push(volume.finish().await?);
        }
        Ok(objects)
    }
}
