//! Streaming WAL beside a backup, over a temporary slot that keeps the server from removing it meanwhile.

use super::connection::{Received, Replication, columns, payload, unexpected};
use crate::Error;
use bytes::{Buf, Bytes};
use pgbosun_core::{lsn::Lsn, name};
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
    sent: Lsn,
    server: Lsn,
    flushed: Lsn,
    reported: Instant,
}

impl Replication {
    /// Creates a temporary physical slot that keeps WAL from now on. It ends with this connection.
    ///
    /// # Errors
    /// The server's refusal, for want of `max_replication_slots` for one.
    pub async fn temporary_slot(&mut self, name: &str) -> Result<(), Error> {
        self.query(&format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY PHYSICAL RESERVE_WAL")).await.map(drop)
    }

    /// Makes sure that a lasting physical slot of this name exists and keeps WAL (C6: RESERVE_WAL); true where it was made.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn lasting_slot(&mut self, name: &str) -> Result<bool, Error> {
        match self.query(&format!("CREATE_REPLICATION_SLOT \"{name}\" PHYSICAL RESERVE_WAL")).await {
            Ok(_) => Ok(true),
            // 42710: it is there already.
            Err(Error::Refused { code, .. }) if code == "42710" => {
                while !matches!(self.message().await?, Message::ReadyForQuery(_)) {}
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The position from which a slot keeps WAL, and its timeline (`READ_REPLICATION_SLOT`).
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn slot_position(&mut self, name: &str) -> Result<Option<(Lsn, u32)>, Error> {
        let rows = self.query(&format!("READ_REPLICATION_SLOT \"{name}\"")).await?;
        let field = |index: usize| rows.first().and_then(|row| row.get(index)?.clone());
        Ok(field(1).and_then(|lsn| lsn.parse().ok()).zip(field(2).and_then(|timeline| timeline.parse().ok())))
    }

    /// The history file of a timeline after the first: its name and what is in it, byte by byte.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<(String, Vec<u8>), Error> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let field = |index: usize| rows.first().and_then(|row| row.get(index)?.clone());
        let answer = field(0).zip(field(1)).ok_or_else(|| unexpected("answer to TIMELINE_HISTORY"))?;
        Ok((answer.0, name::from_text(&answer.1)))
    }

    /// Starts streaming at `start`, which is best the start of a segment; without a slot nothing keeps the server from removing it.
    ///
    /// # Errors
    /// The server's refusal, where it no longer has that WAL for one.
    pub async fn stream_wal(mut self, slot: Option<&str>, start: Lsn, timeline: u32) -> Result<WalStream, Error> {
        let slot = slot.map_or_else(String::new, |slot| format!("SLOT \"{slot}\" "));
        self.send(&format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}")).await?;
        match self.receive().await? {
            Received::CopyBoth => {
                Ok(WalStream { connection: self, sent: start, server: start, flushed: start, reported: Instant::now() })
            }
            Received::Other(_) => Err(unexpected("answer to START_REPLICATION")),
        }
    }
}

impl WalStream {
    /// The next piece of WAL; `None` where the timeline ended because another server was promoted: [`Self::end`] says
    /// how it goes on.
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn next(&mut self) -> Result<Option<WalChunk>, Error> {
        loop {
            self.keep_alive().await?;
            let message = match tokio::time::timeout(STATUS_INTERVAL, self.connection.message()).await {
                Ok(message) => message?,
                Err(_) => continue,
            };
            let mut data = match message {
                Message::CopyData(body) => payload(body),
                Message::CopyDone => return Ok(None),
                _ => return Err(unexpected("message within the WAL")),
            };
            match data.first() {
                Some(b'w') if data.len() >= 25 => {
                    data.advance(1);
                    let start = Lsn(data.get_u64());
                    self.server = Lsn(data.get_u64());
                    data.advance(8);
                    let end = start.0.checked_add(data.len() as u64).ok_or_else(|| unexpected("position of WAL"))?;
                    self.sent = Lsn(end);
                    return Ok(Some(WalChunk { start, data }));
                }
                Some(b'k') if data.len() >= 18 => {
                    data.advance(1);
                    self.server = Lsn(data.get_u64());
                    if data[8] == 1 {
                        self.report_positions().await?;
                    }
                }
                _ => return Err(unexpected("kind of message within the WAL")),
            }
        }
    }

    /// Records that everything before `position` is durable with us (C6); reported at the next occasion.
    pub fn flushed(&mut self, position: Lsn) {
        self.flushed = position;
    }

    /// What [`Self::flushed`] was last told; the start before that.
    pub const fn flushed_position(&self) -> Lsn {
        self.flushed
    }

    /// Tells the server that we are alive, where it is time to. Whoever keeps the stream waiting calls this meanwhile.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn keep_alive(&mut self) -> Result<(), Error> {
        if self.reported.elapsed() >= STATUS_INTERVAL { self.report_positions().await } else { Ok(()) }
    }

    /// Reports the flushed position now.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn report(&mut self) -> Result<(), Error> {
        self.report_positions().await
    }

    /// The end of the server's WAL as it last said.
    pub const fn server_position(&self) -> Lsn {
        self.server
    }

    /// After the end of a timeline: the next one and where it begins, and the connection for following it.
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn end(mut self) -> Result<(Replication, u32, Lsn), Error> {
        self.connection.send_copy_done().await?;
        let mut next = None;
        loop {
            match self.connection.message().await? {
                Message::DataRow(row) => {
                    let row = columns(&row)?;
                    let timeline = row.first().and_then(|timeline| timeline.as_ref()?.parse().ok());
                    next = timeline.zip(row.get(1).and_then(|lsn| lsn.as_ref()?.parse().ok()));
                }
                Message::ReadyForQuery(_) => {
                    let (timeline, lsn) = next.ok_or_else(|| unexpected("end of the timeline"))?;
                    return Ok((self.connection, timeline, lsn));
                }
                _ => {}
            }
        }
    }

    async fn report_positions(&mut self) -> Result<(), Error> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_MICROS;
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        for position in [self.sent.0.max(self.flushed.0), self.flushed.0, 0] {
            status.extend_from_slice(&position.to_be_bytes());
        }
        status.extend_from_slice(&micros.to_be_bytes());
        status.push(0);
        self.reported = Instant::now();
        self.connection.send_copy_data(&status).await
    }
}
