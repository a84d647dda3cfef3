//! Reading WAL records for what a restore needs to know: when transactions ended, and where restore points lie
//! (PostgreSQL: `xlogrecord.h`, `xact.h`, `xlog_internal.h`).
//!
//! Commit times are read from the WAL itself when a restore is planned: nothing beside the segments has to be kept in
//! step with them (C19).

use super::segment::{Header, LONG_HEADER, number};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::lsn::Lsn;

/// Something a recovery target can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction was committed or rolled back.
    End {
        /// Where its record begins.
        at: Lsn,
        /// The transaction; of one that was prepared, its own.
        xid: u32,
        /// When.
        time: DateTime<Utc>,
    },
    /// `pg_create_restore_point`.
    RestorePoint {
        /// Where its record begins.
        at: Lsn,
        /// Its name.
        name: String,
        /// When.
        time: DateTime<Utc>,
    },
}

pub(super) const RECORD_HEADER: usize = 24;
/// `XLogRecordMaxSize`; before PostgreSQL 16 none could be longer than an allocation of the server.
const LONGEST_RECORD: usize = 1 << 30;
const SHORT_HEADER: usize = 24;
const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;
const RESTORE_POINT: u8 = 0x70;
/// `XLOG_XACT_OPMASK`, and the operations that end a transaction.
const XACT_MASK: u8 = 0x70;
const XACT_COMMIT: u8 = 0x00;
const XACT_ABORT: u8 = 0x20;
const XACT_COMMIT_PREPARED: u8 = 0x30;
const XACT_ABORT_PREPARED: u8 = 0x40;
/// `XLOG_PAGE_MAGIC` of PostgreSQL 18.
const MAGIC_18: u16 = 0xD118;

/// A part of a record on one page: where it lies, and its bytes.
pub(super) type Piece = (Lsn, usize);

/// Told of every whole record: its bytes, where it begins, and where its parts lie. False where it is none.
type Reader<'a> = &'a mut dyn FnMut(&[u8], Lsn, &[Piece]) -> bool;

/// Follows records through segments that are given in order.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The beginning of a record that goes on on the next page.
    record: Vec<u8>,
    record_at: Lsn,
    /// Where its parts lie.
    pieces: Vec<Piece>,
    /// Bytes of a record whose beginning was never seen.
    skip: usize,
    /// Where the last segment ended.
    expected: Option<Lsn>,
    /// The end of the last whole record.
    end: Lsn,
}

impl Scanner {
    /// The end of the last whole record that was read.
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// Reads one segment and tells `found` of each event. Returns false where the WAL ends within it.
    pub fn segment(&mut self, bytes: &[u8], found: &mut dyn FnMut(Event)) -> bool {
        let magic = Header::read(bytes).map_or(0, |header| header.magic);
        self.records(bytes, &mut |bytes, at, _| record(bytes, at, magic, found))
    }

    /// Reads one segment record by record. Returns false where the WAL ends within it.
    pub(super) fn records(&mut self, bytes: &[u8], read: Reader<'_>) -> bool {
        let Some(header) = Header::read(bytes) else { return false };
        if self.expected != Some(header.address) {
            self.record.clear();
            self.pieces.clear();
            self.skip = 0;
        }
        let page_size = bytes.get(36..40).map_or(8192, number) as usize;
        let mut page_at = header.address;
        for page in bytes.chunks(page_size.max(LONG_HEADER)) {
            if !self.page(page, page_at, read) {
                self.expected = None;
                return false;
            }
            page_at = Lsn(page_at.0 + page.len() as u64);
        }
        self.expected = Some(page_at);
        true
    }

    /// The beginning of a record that goes on in the next segment, and the length of the whole.
    pub(super) fn unfinished(&self) -> Option<(&[u8], usize)> {
        let length = number(self.record.get(..4)?) as usize;
        Some((&self.record, length))
    }

    fn page(&mut self, page: &[u8], at: Lsn, read: Reader<'_>) -> bool {
        let field = |from: usize, to: usize| page.get(from..to).map(number);
        let (Some(magic), Some(info)) = (field(0, 2), field(2, 4)) else { return false };
        if magic >> 8 != 0xD1 || field(8, 16) != Some(at.0) {
            return false;
        }
        let mut position = if info & 0x0002 != 0 { LONG_HEADER } else { SHORT_HEADER };
        // What is left of a record from before this page. After a crash within one, the server writes over the rest of it, from
        // the next page on (PostgreSQL: `XLP_FIRST_IS_OVERWRITE_CONTRECORD`), and the record never becomes whole.
        let rest = field(16, 20).unwrap_or(0) as usize;
        let missing = match self.record.get(..4) {
            Some(length) => (number(length) as usize).saturating_sub(self.record.len()),
            None => self.skip,
        };
        if rest != missing {
            self.record.clear();
            self.pieces.clear();
            self.skip = rest;
        }
        while position < page.len() {
            let left = page.len() - position;
            if self.skip > 0 {
                let step = self.skip.min(left);
                self.skip -= step;
                position += step;
                if self.skip == 0 {
                    position = position.next_multiple_of(8);
                }
                continue;
            }
            if self.record.is_empty() {
                if left < 8 {
                    break;
                }
                self.record_at = Lsn(at.0 + position as u64);
            }
            // The length stands in the first four bytes, which never cross a page: records are aligned.
            let length = match self.record.get(..4) {
                Some(bytes) => number(bytes),
                None => field(position, position + 4).unwrap_or(0),
            } as usize;
            if !(RECORD_HEADER..=LONGEST_RECORD).contains(&length) {
                return false;
            }
            let step = (length - self.record.len()).min(left);
            if self.record.is_empty() && step == length {
                if !read(&page[position..position + length], self.record_at, &[(self.record_at, length)]) {
                    return false;
                }
            } else {
                self.record.extend_from_slice(&page[position..position + step]);
                self.pieces.push((Lsn(at.0 + position as u64), step));
                if self.record.len() == length {
                    let (whole, pieces) = (std::mem::take(&mut self.record), std::mem::take(&mut self.pieces));
                    if !read(&whole, self.record_at, &pieces) {
                        return false;
                    }
                }
            }
            if self.record.is_empty() {
                self.end = Lsn(at.0 + (position + step) as u64);
            }
            position = (position + step).next_multiple_of(8);
        }
        true
    }
}

/// Looks at one record whose checksum nobody checked.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_record(bytes: &[u8], magic: u16, found: &mut dyn FnMut(Event)) {
    record(bytes, Lsn(0), magic, found);
    main_data(bytes);
}

/// Looks at one record; false where it is none.
fn record(bytes: &[u8], at: Lsn, magic: u16, found: &mut dyn FnMut(Event)) -> bool {
    let field = |from: usize, to: usize| bytes.get(from..to).map_or(0, number);
    let (info, manager) = (field(16, 17) as u8, field(17, 18) as u8);
    let ends = manager == RM_XACT
        && matches!(info & XACT_MASK, XACT_COMMIT | XACT_ABORT | XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED);
    let names = manager == RM_XLOG && info & 0xF0 == RESTORE_POINT;
    if !ends && !names {
        return true;
    }
    // Only what is used is checked: the rest is PostgreSQL's, which checks it when it recovers.
    if u64::from(checksum(bytes)) != field(20, 24) {
        return false;
    }
    let Some((data, time)) = main_data(bytes).and_then(|data| Some((data, time(number(data.get(..8)?))?))) else {
        return true;
    };
    if ends {
        // The record of one that was prepared is written by whoever ends it, and names it in its data.
        let prepared = matches!(info & XACT_MASK, XACT_COMMIT_PREPARED | XACT_ABORT_PREPARED);
        let xid = if prepared { prepared_xid(data, magic).unwrap_or(0) } else { field(4, 8) as u32 };
        found(Event::End { at, xid, time });
    } else {
        let name: Vec<u8> = data.iter().skip(8).take(64).copied().take_while(|byte| *byte != 0).collect();
        found(Event::RestorePoint { at, name: String::from_utf8_lossy(&name).into_owned(), time });
    }
    true
}

/// The transaction that `COMMIT PREPARED` or `ROLLBACK PREPARED` ended. It stands behind the lists that their record has
/// (PostgreSQL: `ParseCommitRecord`, `xl_xact_xinfo`).
fn prepared_xid(data: &[u8], magic: u16) -> Option<u32> {
    const DATABASE: u64 = 1 << 0;
    // Flag, and bytes of an entry: subtransactions, files of dropped relations, their statistics, invalidations.
    let stats = if magic < MAGIC_18 { 12 } else { 16 };
    let lists = [(1_u64 << 1, 4), (1 << 2, 12), (1 << 8, stats), (1 << 3, 16)];
    let number_at = |at: usize| data.get(at..at.checked_add(4)?).map(number);
    let flags = number_at(8)?;
    let mut at = if flags & DATABASE == 0 { 12 } else { 20 };
    for (flag, entry) in lists {
        if flags & flag != 0 {
            at += 4 + entry * number_at(at)? as usize;
        }
    }
    number_at(at).map(|xid| xid as u32)
}

/// The checksum a record should have: over its data, then its header up to the checksum.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let data = crc32c::crc32c(bytes.get(RECORD_HEADER..).unwrap_or_default());
    crc32c::crc32c_append(data, bytes.get(..20).unwrap_or_default())
}

/// The main data of a record without block references.
pub(super) fn main_data(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = RECORD_HEADER;
    loop {
        match *bytes.get(at)? {
            // Short and long main data, origin, top-level transaction (`XLR_BLOCK_ID_…`).
            255 => return bytes.get(at + 2..at + 2 + usize::from(*bytes.get(at + 1)?)),
            254 => return bytes.get(at + 5..at + 5 + number(bytes.get(at + 1..at + 5)?) as usize),
            253 => at += 3,
            252 => at += 5,
            _ => return None,
        }
    }
}

/// PostgreSQL's time: microseconds since 2000-01-01.
fn time(micros: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(946_684_800, 0)?.checked_add_signed(TimeDelta::microseconds(micros.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::segment::tests::empty_segment;
    use pgbosun_core::wal::Segment;

    #[test]
    fn c29_records_after_one_that_a_crash_cut_off_are_seen() {
        const PAGE: usize = 8192;
        let record = |length: usize, manager: u8| {
            let mut record = vec![0; length];
            record[..4].copy_from_slice(&(length as u32).to_le_bytes());
            record[17] = manager;
            record
        };
        let mut bytes = empty_segment(Segment { timeline: 1, log: 0, number: 1 }, 1, 7);
        let start = Header::read(&bytes).unwrap().address;
        let cut = PAGE - 64;
        bytes[LONG_HEADER..cut].copy_from_slice(&record(cut - LONG_HEADER, 1));
        // Its other 236 bytes were never written: the server begins anew on the next page.
        bytes[cut..PAGE].copy_from_slice(&record(300, 2)[..64]);
        let mut page = bytes[..2].to_vec();
        page.extend([0x08, 0, 1, 0, 0, 0]);
        page.extend((start.0 + PAGE as u64).to_le_bytes());
        page.extend([0; 8]);
        page.extend(record(48, 3));
        page.extend(record(40, 4));
        bytes[PAGE..PAGE + page.len()].copy_from_slice(&page);
        let mut seen = Vec::new();
        Scanner::default().records(&bytes, &mut |bytes, at, pieces| {
            assert_eq!(pieces, [(at, bytes.len())]);
            seen.push((bytes[17], at.0 - start.0));
            true
        });
        assert_eq!(seen, [(1, 40), (3, 8192 + 24), (4, 8192 + 72)]);
    }
}
