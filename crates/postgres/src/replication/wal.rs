//! Streaming WAL beside a backup, over a temporary slot that keeps the server from removing it meanwhile.

use super::connection::{Received, Replication, payload, unexpected};
use crate::Error;
use bytes::{Buf, Bytes};
use pgbosun_core::lsn::Lsn;
use postgres_protocol::message::backend::Message;
use std::time::{Duration, Instant};

/// How often the server hears from us; half of the shortest sensible `wal_sender_timeout`.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Microseconds between the Unix epoch and PostgreSQL's, 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A piece of WAL.
#[derive(Clone, Debug)]
pub struct WalChunk {
    /// Position of its first byte.
    pub start: Lsn,
    /// The bytes.
    pub data: Bytes,
}

/// A running `START_REPLICATION`.
pub struct WalStream {
    connection: Replication,
    flushed: Lsn,
    told: Instant,
}

impl Replication {
    /// Creates a temporary physical slot that keeps WAL from now on. It ends with this connection.
    ///
    /// # Errors
    /// The server's refusal, for want of `max_replication_slots` for one.
    pub async fn temporary_slot(&mut self, name: &str) -> Result<(), Error> {
        self.query(&format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY PHYSICAL RESERVE_WAL")).await.map(drop)
    }

    /// The history file of a timeline after the first: its name and text.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<(String, String), Error> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let field = |index: usize| rows.first().and_then(|row| row.get(index)?.clone());
        field(0).zip(field(1)).ok_or_else(|| unexpected("answer to TIMELINE_HISTORY"))
    }

    /// Starts streaming at `start`, which is best the start of a segment.
    ///
    /// # Errors
    /// The server's refusal, where it no longer has that WAL for one.
    pub async fn stream_wal(mut self, slot: &str, start: Lsn, timeline: u32) -> Result<WalStream, Error> {
        self.send(&format!("START_REPLICATION SLOT \"{slot}\" PHYSICAL {start} TIMELINE {timeline}")).await?;
        match self.receive().await? {
            Received::CopyBoth => Ok(WalStream { connection: self, flushed: start, told: Instant::now() }),
            Received::Other(_) => Err(unexpected("answer to START_REPLICATION")),
        }
    }
}

impl WalStream {
    /// The next piece of WAL. The stream ends only with an error: the server has no end of WAL.
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn next(&mut self) -> Result<WalChunk, Error> {
        loop {
            if self.told.elapsed() >= STATUS_INTERVAL {
                self.tell().await?;
            }
            let message = match tokio::time::timeout(STATUS_INTERVAL, self.connection.message()).await {
                Ok(message) => message?,
                Err(_) => continue,
            };
            let mut data = match message {
                Message::CopyData(body) => payload(body),
                Message::CopyDone => return Err(unexpected("end of the timeline: the server was promoted")),
                _ => return Err(unexpected("message within the WAL")),
            };
            match data.first() {
                Some(b'w') if data.len() >= 25 => {
                    data.advance(1);
                    let start = Lsn(data.get_u64());
                    data.advance(16);
                    return Ok(WalChunk { start, data });
                }
                Some(b'k') if data.len() >= 18 => {
                    if data[17] == 1 {
                        self.tell().await?;
                    }
                }
                _ => return Err(unexpected("kind of message within the WAL")),
            }
        }
    }

    /// Records that everything before `position` is with us; reported at the next occasion.
    pub fn flushed(&mut self, position: Lsn) {
        self.flushed = position;
    }

    async fn tell(&mut self) -> Result<(), Error> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_MICROS;
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        for position in [self.flushed.0, self.flushed.0, 0] {
            status.extend_from_slice(&position.to_be_bytes());
        }
        status.extend_from_slice(&micros.to_be_bytes());
        status.push(0);
        self.told = Instant::now();
        self.connection.send_copy_data(&status).await
    }
}
