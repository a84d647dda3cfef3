//! The WAL of one backup, streamed beside it into a tar of whole segments (C14).

use crate::{
    Error,
    physical::{SILENCE, silent},
};
use pgbosun_core::lsn::Lsn;
use pgbosun_postgres::replication::WalStream;
use pgbosun_repository::{Destinations, LastSegment, ObjectKind, VolumeWriter, Written};
use sha2::{Digest, Sha256};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Receives WAL into a volume of the backup.
pub(crate) struct Receiver {
    volume: VolumeWriter,
    timeline: u32,
    segment_size: u64,
    /// The position up to which WAL is written; the start of a segment before the first byte.
    position: Option<Lsn>,
    /// Over what came of the segment at that position.
    hash: Sha256,
    /// The last one that came whole.
    whole: Option<LastSegment>,
}

impl Receiver {
    /// Begins the volume, with the timeline's history file where it has one.
    pub async fn create(
        to: &Arc<Destinations>,
        timeline: u32,
        segment_size: u64,
        history: Option<(String, Vec<u8>)>,
    ) -> Result<Self, Error> {
        let mut volume = VolumeWriter::create(to, "wal.0001", ObjectKind::Wal).await?;
        if let Some((name, text)) = &history {
            volume.add_file(name, text).await?;
        }
        Ok(Self { volume, timeline, segment_size, position: None, hash: Sha256::new(), whole: None })
    }

    /// Receives until everything before the stop position is written, which is known only later, and makes it durable. Returns with
    /// it the last segment that came whole.
    pub async fn receive(
        mut self,
        mut stream: WalStream,
        mut stop: watch::Receiver<Option<Lsn>>,
    ) -> Result<(Written, Option<LastSegment>), Error> {
        loop {
            let known = *stop.borrow_and_update();
            if let (Some(stop), Some(position)) = (known, self.position)
                && position >= stop
            {
                return self.finish().await;
            }
            // While the backup goes on an idle server has no WAL to send; once it has ended, what is missing must come.
            let patience = if known.is_some() { SILENCE } else { Duration::MAX };
            let chunk = tokio::select! {
                chunk = stream.next() => chunk?.ok_or_else(|| {
                    Error::Interrupted("a server was promoted during the backup: take the backup again".into())
                })?,
                () = tokio::time::sleep(patience) => return Err(silent()),
                changed = stop.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Err(Error::Cancelled),
                },
            };
            let expected = self.position.unwrap_or(chunk.start);
            if chunk.start != expected {
                let message = format!("the server sent WAL from {} where {expected} was expected", chunk.start);
                return Err(pgbosun_postgres::Error::Protocol(message).into());
            }
            // A repository that stalls holds this up; the server must hear from us all the same.
            let writing = self.write(chunk.start, &chunk.data);
            alive(&mut stream, writing).await?;
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
                self.volume.begin_file(&name, self.segment_size).await?;
            }
            let left = usize::try_from(self.segment_size - within).unwrap_or(usize::MAX);
            let (piece, rest) = data.split_at(left.min(data.len()));
            self.hash.update(piece);
            self.volume.write(piece).await?;
            at += piece.len() as u64;
            data = rest;
            if at.is_multiple_of(self.segment_size) {
                self.whole = Some(LastSegment { end: Lsn(at), sha256: hex::encode(self.hash.finalize_reset()) });
            }
        }
        self.position = Some(Lsn(at));
        Ok(())
    }

    /// Fills the last segment with zeros, as the server does itself, and makes the volume durable.
    async fn finish(mut self) -> Result<(Written, Option<LastSegment>), Error> {
        let zeros = vec![0; 1 << 16];
        let mut left = match self.position.map(|position| position.0 % self.segment_size) {
            None | Some(0) => 0,
            Some(within) => self.segment_size - within,
        };
        while left > 0 {
            let piece = zeros.len().min(usize::try_from(left).unwrap_or(zeros.len()));
            self.volume.write(&zeros[..piece]).await?;
            left -= piece as u64;
        }
        Ok((self.volume.finish().await?, self.whole))
    }
}

/// Waits for work while the server keeps hearing from us.
pub(crate) async fn alive<T>(stream: &mut WalStream, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_secs(2), &mut work).await {
            Ok(done) => return done,
            Err(_) => stream.keep_alive().await?,
        }
    }
}
