//! The members of a backup's volumes, held against the manifest and the list of files while they pass.
//!
//! C36: memory is bounded by what was written down, whatever the volumes hold: a member is looked up and counted, and of those that
//! nobody knows only the first are named.

use super::Listed;
use crate::manifest::Expected;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use pgbosun_repository::{BackupInfo, Object, ObjectKind};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

/// Faults of a kind that are named; of more only the number says anything.
const NAMED: usize = 100;

/// Faults of a kind.
#[derive(Debug, Default)]
pub(super) struct Few {
    named: Vec<String>,
    more: usize,
}

impl Few {
    pub fn push(&mut self, words: impl FnOnce() -> String) {
        match self.named.len() < NAMED {
            true => self.named.push(words()),
            false => self.more += 1,
        }
    }

    fn append(&mut self, other: Self) {
        other.named.into_iter().for_each(|words| self.push(|| words));
        self.more += other.more;
    }

    /// In words, in order.
    pub fn words(mut self) -> Vec<String> {
        self.named.sort();
        self.named.extend((self.more > 0).then(|| format!("and {} more", self.more)));
        self.named
    }
}

/// What was found in one volume, or in all.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files of the data directory and the tablespaces.
    pub files: u64,
    /// Where they are not what the manifest says.
    pub unlike: Few,
    /// What is there twice, or not in the list of files.
    pub misplaced: Few,
    /// Files of WAL that are none, or another's.
    pub wal: Few,
    /// Segments of WAL that the backup needs.
    pub segments: BTreeSet<Segment>,
}

impl Found {
    pub fn append(&mut self, other: Self) {
        self.files += other.files;
        self.unlike.append(other.unlike);
        self.misplaced.append(other.misplaced);
        self.wal.append(other.wal);
        for segment in other.segments {
            if !self.segments.insert(segment) {
                self.misplaced.push(|| format!("{segment} appears twice"));
            }
        }
    }
}

struct File {
    expected: Expected,
    seen: bool,
}

/// What was written down of a backup.
pub(super) struct Tally {
    pub info: BackupInfo,
    files: Mutex<HashMap<String, File>>,
    listed: Option<Listed>,
}

impl Tally {
    pub fn new(info: &BackupInfo, manifest: HashMap<String, Expected>, listed: Option<Listed>) -> Self {
        let files = manifest.into_iter().map(|(path, expected)| (path, File { expected, seen: false }));
        Self { info: info.clone(), files: Mutex::new(files.collect()), listed }
    }

    /// Begins a volume.
    pub fn volume(&self, object: &Object) -> Volume<'_> {
        let listed = self.listed.as_ref().zip(object.name.find(".tar")).map(|(listed, at)| {
            listed.get(&object.name[..at + 4]).into_iter().flatten().map(String::as_str).collect::<HashSet<_>>()
        });
        Volume { tally: self, kind: object.kind, name: object.name.clone(), listed, found: Found::default() }
    }

    /// The list of files, and what of the manifest was in no volume.
    pub fn end(self) -> (Option<Listed>, Few) {
        let mut missing = Few::default();
        let files = self.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (path, _) in files.iter().filter(|(_, file)| !file.seen) {
            missing.push(|| format!("{path:?} is in the manifest but in no volume"));
        }
        (self.listed, missing)
    }
}

/// A volume that is being read.
pub(super) struct Volume<'a> {
    tally: &'a Tally,
    kind: ObjectKind,
    name: String,
    listed: Option<HashSet<&'a str>>,
    pub found: Found,
}

impl Volume<'_> {
    /// A member has passed: its name, and its beginning, size and checksum.
    pub fn member(&mut self, name: &str, beginning: &[u8], size: u64, crc32c: &str) {
        if self.listed.as_ref().is_some_and(|listed| !listed.contains(name)) {
            let volume = &self.name;
            self.found.misplaced.push(|| format!("{volume}: {name:?} is in the volume but not in the file list"));
        }
        match self.kind {
            ObjectKind::Data => self.file(name, size, crc32c),
            ObjectKind::Tablespace(oid) => self.file(&format!("pg_tblspc/{oid}/{name}"), size, crc32c),
            ObjectKind::Wal if !name.ends_with(".history") => self.segment(name, beginning),
            ObjectKind::Wal | ObjectKind::Config | ObjectKind::Manifest | ObjectKind::Index => {}
        }
    }

    fn file(&mut self, path: &str, size: u64, crc32c: &str) {
        let mut files = self.tally.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = files.get_mut(path) else {
            self.found.unlike.push(|| format!("{path:?} is in a volume but not in the manifest"));
            return;
        };
        self.found.files += 1;
        if std::mem::replace(&mut file.seen, true) {
            self.found.misplaced.push(|| format!("{path:?} appears twice"));
        }
        if let Some(reason) = file.expected.difference(size, crc32c) {
            self.found.unlike.push(|| format!("{path:?} {reason}"));
        }
    }

    /// C5: page address, system identifier and segment size in the header of the first page.
    fn segment(&mut self, name: &str, header: &[u8]) {
        let info = &self.tally.info;
        let field = |from: usize, to: usize| {
            let bytes = header.get(from..to).unwrap_or_default();
            bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let (address, system_id, size) = (Lsn(field(8, 16)), field(24, 32), field(32, 36));
        if system_id.to_string() != info.system_id {
            self.found.wal.push(|| format!("{name} belongs to system identifier {system_id}"));
            return;
        }
        let fits = |segment: &Segment| {
            let of_backup = (info.start_timeline..=info.timeline).contains(&segment.timeline);
            size == info.wal_segment_size && of_backup && *segment == Segment::holding(address, segment.timeline, size)
        };
        let segment = match WalFile::parse(name) {
            Some(WalFile::Segment(segment)) if fits(&segment) => segment,
            _ => {
                self.found.wal.push(|| format!("{name} begins at {address}"));
                return;
            }
        };
        let needed = info.start_lsn.segment_start(size)..info.stop_lsn;
        if needed.contains(&address) && !self.found.segments.insert(segment) {
            self.found.misplaced.push(|| format!("{segment} appears twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::backup;

    #[test]
    fn c36_what_a_volume_holds_fills_no_memory() {
        let info = backup("a", 1, None);
        let object =
            |name: &str, kind| Object { name: name.into(), kind, size: 1, sha256: String::new(), plain_size: 1 };
        let file = || Expected { size: 9, crc32c: None };
        let manifest = [("base/1/1".to_owned(), file()), ("pg_tblspc/7/x".to_owned(), file())];
        let listed = [("base.0001.tar".to_owned(), vec!["base/1/1".to_owned()])];
        let tally = Tally::new(&info, manifest.into(), Some(listed.into()));
        let mut all = Found::default();
        for round in 0..2 {
            let mut volume = tally.volume(&object("base.0001.tar.zst", ObjectKind::Data));
            volume.member("base/1/1", &[], 9, "");
            (0..500).for_each(|number| volume.member(&format!("{round}/{number}"), &[], 9, ""));
            all.append(volume.found);
        }
        let mut volume = tally.volume(&object("wal.tar.zst", ObjectKind::Wal));
        (0..500).for_each(|number| volume.member(&Lsn(number << 24).segment_name(1, 16 << 20), &[0; 40], 40, ""));
        assert!(volume.found.segments.is_empty());
        all.append(volume.found);
        assert_eq!(all.files, 2);
        for (few, words, more) in [
            (all.unlike, "is in a volume but not in the manifest", "and 900 more"),
            (all.wal, "belongs to system identifier 0", "and 400 more"),
        ] {
            let told = few.words();
            assert_eq!((told.len(), told[NAMED].as_str()), (NAMED + 1, more));
            assert!(told[0].contains(words), "{}", told[0]);
        }
        assert!(all.misplaced.words().len() == NAMED + 1);
        assert_eq!(tally.end().1.words(), ["\"pg_tblspc/7/x\" is in the manifest but in no volume"]);
    }

    #[test]
    fn c5_a_segment_is_what_it_says_on_either_side_of_a_promotion() {
        let info = BackupInfo { start_timeline: 1, timeline: 2, ..backup("a", 1, None) };
        let tally = Tally::new(&info, HashMap::new(), None);
        let object =
            Object { name: "wal.tar".into(), kind: ObjectKind::Wal, size: 1, sha256: String::new(), plain_size: 1 };
        let mut header = [0_u8; 40];
        header[8..16].copy_from_slice(&(1_u64 << 24).to_le_bytes());
        header[24..32].copy_from_slice(&1_u64.to_le_bytes());
        header[32..36].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        let mut volume = tally.volume(&object);
        for timeline in 1..=3 {
            volume.member(&Lsn(1 << 24).segment_name(timeline, 16 << 20), &header, 40, "");
        }
        volume.member("00000002.history", &[], 0, "");
        assert_eq!(volume.found.segments.len(), 2);
        assert_eq!(volume.found.wal.words(), ["000000030000000000000001 begins at 0/1000000"]);
    }
}
