//! C29: what WAL would do outside a copy's own directory. A record of `CREATE TABLESPACE` names the place of the original; replayed
//! on a copy on the same machine it would be made there, and the copy would write into the live files.
//!
//! What an old primary wrote behind the place where the live line left it (C41): it lies in the same segment, and recovery would replay
//! it where the new timeline's own segment is not archived.
//!
//! And settings that were raised after the backup: a record of them has a hot standby wait for somebody to raise its own, for good, and
//! so a cluster that is restored in its place.
//!
//! Such a record is changed before the copy's server reads it: with an empty location, PostgreSQL (15 and later) makes the
//! tablespace in place, as the directory `pg_tblspc/OID` of the copy (`create_tablespace_directories` in `commands/tablespace.c`).
//! The settings it demands become zero, which every server has. The length of the record stays, its checksum is computed anew, and nothing else is touched. The change depends on the record
//! alone, so that the two halves of one that lies in two segments are changed alike, whichever is fetched when.

use super::{
    scan::{Piece, RECORD_HEADER, Scanner, checksum, main_data},
    segment::{Header, number},
};
use crate::Error;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, Switch, WalFile},
};
use pgbosun_repository::BackupInfo;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

/// Resource manager and operation of the records (PostgreSQL: `rmgrlist.h`, `tablespace.h`, `pg_control.h`).
const TABLESPACE_CREATE: (u8, u8) = (5, 0x00);
const PARAMETER_CHANGE: (u8, u8) = (0, 0x60);
/// The settings that recovery compares, at the beginning of `xl_parameter_change`: five integers.
const PARAMETERS: usize = 20;
/// The longest of them: header, header of the data, `Oid`, and a path of `MAXPGPATH`.
const LONGEST: usize = RECORD_HEADER + 5 + 4 + 1024;

/// A tablespace that was created in the WAL, and where the original has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTablespace {
    /// Its identity.
    pub oid: u32,
    /// Where the original has it.
    pub location: String,
}

/// Which records are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Those of tablespaces, for a copy beside its original; else only of those that are moved.
    pub places: bool,
    /// Those of settings that were raised after the backup.
    pub settings: bool,
    /// Where tablespaces go that the WAL creates, by the place that the original gave them.
    pub moved: BTreeMap<String, PathBuf>,
    /// What a parent wrote behind this place is not on the line that is followed.
    pub until: Option<Switch>,
}

impl Confinement {
    /// Of a copy beside its original.
    pub fn copy() -> Self {
        Self { places: true, settings: true, ..Self::default() }
    }

    /// Of what is restored from a backup: a copy, what takes its original's place, or a standby, which replays what its primary wrote.
    /// What was moved and is no tablespace of the backup is one that the WAL creates.
    pub fn of(
        info: &BackupInfo,
        in_place: bool,
        standby: bool,
        moved: &BTreeMap<String, PathBuf>,
        until: Option<Switch>,
    ) -> Self {
        let is_later = |old: &str| !info.tablespaces.iter().any(|space| space.location == old);
        let moved = moved.iter().filter(|(old, _)| is_later(old)).map(|(old, new)| (old.clone(), new.clone()));
        Self { places: !standby && !in_place, settings: !standby, moved: moved.collect(), until }
    }

    /// Whether there is anything to change.
    pub fn is_needed(&self) -> bool {
        self.places || self.settings || !self.moved.is_empty() || self.until.is_some()
    }

    /// C41: whether nothing of a segment is on the line that is followed.
    pub fn is_dead(&self, name: Segment, size: u64) -> bool {
        self.until.is_some_and(|switch| switch.parent == name.timeline && switch.at <= name.start(size))
    }

    /// C41: empties a segment of a parent from where the line left it on, which to recovery is the end of WAL; returns whether that
    /// changed anything. By its name: the first segment of a timeline begins with its parent's pages.
    pub fn cut(&self, name: Segment, segment: &mut [u8]) -> bool {
        let Some(switch) = self.until.filter(|switch| switch.parent == name.timeline) else { return false };
        let from = switch.at.0.saturating_sub(name.start(segment.len() as u64).0);
        let dead = usize::try_from(from).ok().and_then(|from| segment.get_mut(from..)).unwrap_or_default();
        let any = dead.iter().any(|byte| *byte != 0);
        dead.fill(0);
        any
    }

    /// Makes the place of a tablespace that was moved, and the link to it: PostgreSQL takes a link that is there for the directory it
    /// would make itself. Returns where it is now.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Refused`] where something else is in the way.
    pub fn place(&self, data_directory: &Path, created: &CreatedTablespace) -> Result<PathBuf, Error> {
        let link = data_directory.join("pg_tblspc").join(created.oid.to_string());
        let Some(place) = self.moved.get(&created.location) else { return Ok(link) };
        if fs::read_link(&link).is_ok_and(|leads| leads == *place) {
            return Ok(place.clone());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(place);
        made.map_err(Error::file("create", place))?;
        let mut entries = fs::read_dir(place).map_err(Error::file("list", place))?;
        if entries.next().is_some() {
            return Err(Error::Refused(format!(
                "{}, the target of tablespace {}, is not empty",
                place.display(),
                created.oid
            )));
        }
        match symlink(place, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Refused(format!("{} is in the way of tablespace {}", link.display(), created.oid)))
            }
            done => done.map(|()| place.clone()).map_err(Error::file("link tablespace", &link)),
        }
    }
}

/// Whether a record that may matter crosses the border to the segment before, and to the one after: [`confine`] needs those.
pub fn borders(segment: &[u8]) -> (bool, bool) {
    // What is left of a record that began in the segment before.
    let rest = segment.get(16..20).map_or(0, number) as usize;
    let mut scanner = Scanner::default();
    let whole = scanner.records(segment, &mut |_, _, _| true);
    let after = whole && scanner.unfinished().is_some_and(|(beginning, length)| may_matter(beginning, length));
    ((1..LONGEST).contains(&rest), after)
}

/// Changes a segment for a copy; the one before it may be changed already. Returns what it creates.
pub fn confine(segment: &mut [u8], before: Option<&[u8]>, after: Option<&[u8]>, confinement: &Confinement) -> Confined {
    let Some(header) = Header::read(segment) else { return Confined::default() };
    let (mut scanner, mut changes) = (Scanner::default(), Vec::new());
    let mut note = |bytes: &[u8], _: Lsn, pieces: &[Piece]| {
        changes.extend(confined(bytes, confinement).map(|(record, found)| (record, pieces.to_vec(), found)));
        true
    };
    if let Some(before) = before {
        scanner.records(before, &mut note);
    }
    scanner.records(segment, &mut note);
    if let (Some(after), Some(_)) = (after, scanner.unfinished()) {
        let mut first = true;
        // The one that crosses the border; the others are changed when that segment's turn comes.
        scanner.records(after, &mut |bytes, at, pieces| std::mem::take(&mut first) && note(bytes, at, pieces));
    }
    let (mut created, mut changed) = (Vec::new(), false);
    for (record, pieces, found) in changes {
        if write(segment, header.address, &record, &pieces) {
            changed = true;
            created.extend(found);
        }
    }
    Confined { changed, created }
}

/// What came of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    /// Whether anything was changed.
    pub changed: bool,
    /// The tablespaces it creates.
    pub created: Vec<CreatedTablespace>,
}

/// Changes the segments that a backup brought into `pg_wal`.
///
/// # Errors
/// [`Error::File`], and those of [`Confinement::place`].
pub fn confine_directory(data_directory: &Path, confinement: &Confinement) -> Result<(), Error> {
    let pg_wal = &data_directory.join("pg_wal");
    let entries = fs::read_dir(pg_wal).map_err(Error::file("list", pg_wal))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| matches!(WalFile::parse(name), Some(WalFile::Segment(_)))).collect();
    names.sort();
    let read = |name: &String| fs::read(pg_wal.join(name)).map_err(Error::file("read", pg_wal.join(name)));
    for (index, name) in names.iter().enumerate() {
        let mut segment = read(name)?;
        let (crosses_before, crosses_after) = borders(&segment);
        let before = index.checked_sub(1).and_then(|before| names.get(before)).filter(|_| crosses_before);
        let after = names.get(index + 1).filter(|_| crosses_after);
        let (before, after) = (before.map(read).transpose()?, after.map(read).transpose()?);
        let cut = match WalFile::parse(name) {
            Some(WalFile::Segment(name)) => confinement.cut(name, &mut segment),
            _ => false,
        };
        let found = confine(&mut segment, before.as_deref(), after.as_deref(), confinement);
        if found.changed || cut {
            let path = pg_wal.join(name);
            fs::write(&path, segment).map_err(Error::file("write", &path))?;
            for created in &found.created {
                confinement.place(data_directory, created)?;
            }
        }
    }
    Ok(())
}

/// Whether a record, of which this is the beginning, may be one to change.
fn may_matter(beginning: &[u8], length: usize) -> bool {
    let kinds = [TABLESPACE_CREATE, PARAMETER_CHANGE];
    let is = |(manager, operation): (u8, u8)| {
        beginning.get(17).is_none_or(|byte| *byte == manager)
            && beginning.get(16).is_none_or(|byte| byte & 0xF0 == operation)
    };
    length < LONGEST && kinds.into_iter().any(is)
}

/// The record as it should be, where it is one to change, and the tablespace it creates.
fn confined(bytes: &[u8], confinement: &Confinement) -> Option<(Vec<u8>, Option<CreatedTablespace>)> {
    let data = main_data(bytes).filter(|_| bytes.len() >= RECORD_HEADER && may_matter(bytes, bytes.len()))?;
    let start = bytes.len() - data.len();
    let creates = bytes.get(17) == Some(&TABLESPACE_CREATE.0);
    // The path after the identity, or the settings.
    let emptied = if creates { start + 4..bytes.len() } else { start..start + PARAMETERS };
    let old = bytes.get(emptied.clone())?;
    // Its first half may have been changed already; then the rest is still there.
    if old.iter().all(|byte| *byte == 0) {
        return None;
    }
    let location: Vec<u8> = old.iter().copied().take_while(|byte| *byte != 0).collect();
    let location = String::from_utf8_lossy(&location).into_owned();
    // Without a beginning: its first half was changed already.
    let is_moved = || location.is_empty() || confinement.moved.contains_key(&location);
    let is_wanted = if creates { confinement.places || is_moved() } else { confinement.settings };
    is_wanted.then_some(())?;
    let found = creates.then(|| CreatedTablespace { oid: number(data.get(..4).unwrap_or_default()) as u32, location });
    let mut record = bytes.to_vec();
    record[emptied].fill(0);
    let sum = checksum(&record);
    // That first half has the new checksum. What is no whole record in either form ends recovery, as PostgreSQL will find.
    let written = bytes.get(20..24).map(number);
    (written == Some(checksum(bytes).into()) || written == Some(sum.into())).then_some(())?;
    record[20..24].copy_from_slice(&sum.to_le_bytes());
    Some((record, found))
}

/// Writes the parts of a record that lie in a segment; whether there are any.
fn write(segment: &mut [u8], address: Lsn, record: &[u8], pieces: &[Piece]) -> bool {
    let (mut from, mut any) = (0, false);
    for (at, length) in pieces {
        let place = at.0.checked_sub(address.0).and_then(|at| usize::try_from(at).ok());
        let place = place.and_then(|at| segment.get_mut(at..at + length));
        if let (Some(place), Some(part)) = (place, record.get(from..from + length)) {
            place.copy_from_slice(part);
            any = true;
        }
        from += length;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::segment::tests::empty_segment;
    use pgbosun_core::wal::Segment;

    const SIZE: usize = 1 << 20;
    const PAGE: usize = 8192;

    /// A record of CREATE TABLESPACE.
    fn record(oid: u32, location: &str) -> Vec<u8> {
        let mut data = oid.to_le_bytes().to_vec();
        data.extend(location.as_bytes());
        data.push(0);
        let mut record = vec![0; RECORD_HEADER];
        record[17] = TABLESPACE_CREATE.0;
        record.extend([255, data.len() as u8]);
        record.extend(data);
        let length = (record.len() as u32).to_le_bytes();
        record[..4].copy_from_slice(&length);
        let sum = checksum(&record);
        record[20..24].copy_from_slice(&sum.to_le_bytes());
        record
    }

    /// Two segments with a record that begins `at` bytes into the first, and one that fills the space before it.
    fn segments(at: usize, record: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let name = |number| Segment { timeline: 1, log: 0, number };
        let mut both = empty_segment(name(1), 1, 7);
        both.extend(empty_segment(name(2), 1, 7));
        let mut write = |mut position: usize, bytes: &[u8]| {
            let mut left = bytes;
            while !left.is_empty() {
                if position.is_multiple_of(PAGE) {
                    let address = (SIZE + position) as u64;
                    if !position.is_multiple_of(SIZE) {
                        both[position..position + 2].copy_from_slice(&0xD116_u16.to_le_bytes());
                        both[position + 8..position + 16].copy_from_slice(&address.to_le_bytes());
                    }
                    let rest = if left.len() < bytes.len() { left.len() as u32 } else { 0 };
                    both[position + 16..position + 20].copy_from_slice(&rest.to_le_bytes());
                    position += if position.is_multiple_of(SIZE) { 40 } else { 24 };
                }
                let step = left.len().min(PAGE - position % PAGE);
                both[position..position + step].copy_from_slice(&left[..step]);
                (left, position) = (&left[step..], position + step);
            }
        };
        // A record of another kind as long as what lies before, less the headers of pages.
        let pages = at / PAGE;
        let filler = at - 40 - pages * 24;
        let mut other = vec![0; filler];
        other[..4].copy_from_slice(&(filler as u32).to_le_bytes());
        write(40, &other);
        write(at, record);
        let second = both.split_off(SIZE);
        (both, second)
    }

    fn found(segment: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> (Vec<u8>, Vec<CreatedTablespace>) {
        let mut changed = segment.to_vec();
        let (crosses_before, crosses_after) = borders(segment);
        let found = confine(
            &mut changed,
            before.filter(|_| crosses_before),
            after.filter(|_| crosses_after),
            &Confinement::copy(),
        );
        assert!(found.changed || changed == segment);
        (changed, found.created)
    }

    #[test]
    fn c29_a_tablespace_is_made_in_place_wherever_its_record_lies() {
        let original = record(16400, "/srv/live/space");
        let expected = record_in_place(&original);
        let created = vec![CreatedTablespace { oid: 16400, location: "/srv/live/space".into() }];
        // Within a page, over the border of two pages, and over the border of two segments at every place PostgreSQL may cut it.
        let cuts = (8..original.len().next_multiple_of(8)).step_by(8).map(|cut| SIZE - cut);
        for at in [4096, 2 * PAGE - 16, 5 * PAGE - 40].into_iter().chain(cuts) {
            let (first, second) = segments(at, &original);
            let (right_first, right_second) = segments(at, &expected);
            let crosses = at + original.len() > SIZE;
            let (changed, seen) = found(&first, None, Some(&second));
            assert_eq!(seen, created, "at {at}");
            assert!(changed == right_first, "at {at}");
            // The next is changed alike, from the segment before as it was changed.
            if crosses {
                for before in [&first, &changed] {
                    let (next, _) = found(&second, Some(before), None);
                    assert!(next == right_second, "at {at}: the second half");
                }
                let (again, _) = found(&changed, None, Some(&right_second));
                assert!(again == right_first, "at {at}: changed once");
            }
        }
    }

    fn record_in_place(original: &[u8]) -> Vec<u8> {
        confined(original, &Confinement::copy()).expect("a record").0
    }

    #[test]
    fn c41_a_parents_segment_ends_where_the_line_left_it() {
        let (whole, _) = segments(400, &record(16400, "/srv/place"));
        let name = |timeline| Segment { timeline, log: 0, number: 1 };
        let at = Lsn(SIZE as u64 + 408);
        let confinement = Confinement { until: Some(Switch { parent: 1, at }), ..Confinement::default() };
        let mut own = whole.clone();
        assert!(!confinement.cut(name(2), &mut own), "the new timeline's own begins with its parent's pages");
        assert_eq!(own, whole);
        let mut parents = whole.clone();
        assert!(confinement.cut(name(1), &mut parents));
        assert_eq!(parents[..408], whole[..408]);
        assert!(parents[408..].iter().all(|byte| *byte == 0));
        let after = Segment { number: 2, ..name(1) };
        assert!(confinement.is_dead(after, SIZE as u64) && !confinement.is_dead(name(1), SIZE as u64));
        assert!(!confinement.cut(Segment { number: 0, ..name(1) }, &mut whole.clone()));
    }

    #[test]
    fn c29_in_place_what_was_moved_alone_is_changed_in_both_halves() {
        let moved = |place: &str| Confinement {
            moved: [(place.to_owned(), "/srv/new".into())].into(),
            ..Confinement::default()
        };
        let original = record(16400, "../strange place");
        let (first, second) = segments(SIZE - 40, &original);
        let (right_first, right_second) = segments(SIZE - 40, &record_in_place(&original));
        let changed = |segment: &[u8], before: Option<&[u8]>, after: Option<&[u8]>, place: &str| {
            let mut changed = segment.to_vec();
            let found = confine(&mut changed, before, after, &moved(place));
            (changed, found.created.len())
        };
        assert!(changed(&first, None, Some(&second), "/other") == (first.clone(), 0));
        let (half, created) = changed(&first, None, Some(&second), "../strange place");
        assert!(half == right_first && created == 1);
        for before in [&first, &half] {
            assert!(changed(&second, Some(before), None, "../strange place").0 == right_second);
        }
    }

    #[test]
    fn c29_a_place_is_made_once_and_nothing_is_replaced_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let (data, place) = (directory.path().join("data"), directory.path().join("new/place"));
        fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        let confinement = Confinement { moved: [("old".to_owned(), place.clone())].into(), ..Confinement::copy() };
        let created = |oid, location: &str| CreatedTablespace { oid, location: location.into() };
        assert_eq!(confinement.place(&data, &created(1, "another")).unwrap(), data.join("pg_tblspc/1"));
        assert!(!data.join("pg_tblspc/1").exists(), "the server makes it");
        assert_eq!(confinement.place(&data, &created(2, "old")).unwrap(), place);
        fs::write(place.join("PG_15"), "").unwrap();
        assert_eq!(confinement.place(&data, &created(2, "old")).unwrap(), place, "it is there already");
        let refused = confinement.place(&data, &created(3, "old")).unwrap_err();
        assert!(refused.to_string().contains("is not empty"), "{refused}");
    }

    #[test]
    fn c29_raised_settings_are_not_demanded_of_a_copy() {
        let mut raised = record(200, "ssssnnnnpppplllllevel");
        (raised[16], raised[17]) = (PARAMETER_CHANGE.1, PARAMETER_CHANGE.0);
        let sum = checksum(&raised);
        raised[20..24].copy_from_slice(&sum.to_le_bytes());
        let (changed, created) = confined(&raised, &Confinement::copy()).unwrap();
        assert!(created.is_none() && changed[26..46].iter().all(|byte| *byte == 0));
        assert_eq!((&changed[46..], number(&changed[20..24])), (&raised[46..], checksum(&changed).into()));
    }

    #[test]
    fn c29_nothing_else_is_touched() {
        let mut other = record(1, "/srv/x");
        other[17] = 4;
        let mut broken = record(1, "/srv/x");
        broken[30] ^= 1;
        for record in [other, broken, record(1, "")] {
            let (first, second) = segments(4096, &record);
            let (changed, created) = found(&first, None, Some(&second));
            assert!(changed == first && created.is_empty());
        }
    }
}
