//! What lies in the archive, over all repositories: continuity per timeline, and which way recovery can go. The one rule
//! that listing, restoring and retention share.

use crate::Error;
use pgbosun_core::{
    lineage::Lineage,
    lsn::Lsn,
    wal::{Segment, Switch, WalFile},
};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, ObjectKind, Repository, WalArchive, WalContents};
use std::collections::BTreeSet;

/// Everything archived of one cluster.
#[derive(Debug, Default)]
pub struct Archive {
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Whole segments.
    pub segments: BTreeSet<Segment>,
    /// How its timelines descend from each other.
    pub lineage: Lineage,
    /// Timelines whose history is there and cannot be read in any repository, with the reason: sealed for this host, or damaged.
    pub unread: Vec<(u32, RepositoryError)>,
    /// Timelines of which there are segments beside those of earlier ones, and no history.
    pub lost: BTreeSet<u32>,
    /// Bytes stored, over all repositories.
    pub stored_bytes: u64,
    /// Two files under one name (C2).
    pub conflicts: Vec<String>,
    /// What is there and not to be believed (C42), with the reason; none of it is among the segments.
    pub untrusted: Vec<(WalFile, String)>,
}

/// A stretch of segments without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The first.
    pub first: Segment,
    /// The last.
    pub last: Segment,
    /// How many.
    pub count: u64,
}

impl Archive {
    /// Reads what there is. Of several repositories one that cannot be asked is passed over: the others must serve; and so they do
    /// for a history file that one of them cannot read.
    ///
    /// # Errors
    /// Where no repository can be asked.
    pub async fn read(
        repositories: &[Repository],
        cluster: &str,
        system_id: &str,
        segment_size: u64,
    ) -> Result<Self, Error> {
        let mut archive = Self { segment_size, ..Self::default() };
        let (mut asked, mut away) = (0, None);
        for repository in repositories {
            match archive.add(&WalArchive::new(repository, cluster, system_id)).await {
                Ok(()) => asked += 1,
                Err(error) => {
                    if repositories.len() > 1 {
                        let reason = pgbosun_core::human::chain(&error);
                        tracing::warn!(repository = repository.name, "its WAL is skipped: {reason}");
                    }
                    away = away.or(Some(error));
                }
            }
        }
        let lineage = &archive.lineage;
        archive.unread.retain(|(timeline, _)| lineage.timelines().all(|known| known != *timeline));
        archive.lost = archive.without_history();
        match away {
            Some(error) if asked == 0 => Err(error.into()),
            _ => Ok(archive),
        }
    }

    /// Adds what one repository has, or nothing of it.
    async fn add(&mut self, place: &WalArchive) -> Result<(), RepositoryError> {
        let contents = place.contents().await?;
        let (lineage, unread) = place.lineage_of(&contents.believed).await?;
        self.lineage.merge(lineage);
        self.unread.extend(unread);
        self.conflicts.extend(contents.conflicts().map(ToString::to_string));
        let WalContents { believed: objects, untrusted } = contents;
        self.untrusted.extend(untrusted.iter().map(|object| (object.file.clone(), object.untrusted().to_string())));
        for object in objects {
            self.stored_bytes += object.size;
            if object.size == 0 {
                // C34, as `WalArchive::is_empty` says.
                self.untrusted.push((object.file, format!("{} is empty", object.key)));
                continue;
            }
            if let WalFile::Segment(segment) = object.file {
                self.segments.insert(segment);
            }
        }
        Ok(())
    }

    /// A server archives the history of its timeline before any segment, so where there is none it was lost. The oldest timeline needs
    /// none: archiving may have begun on it.
    fn without_history(&self) -> BTreeSet<u32> {
        let oldest = self.segments.iter().map(|segment| segment.timeline).min();
        let there: BTreeSet<u32> =
            self.lineage.timelines().chain(self.unread.iter().map(|(known, _)| *known)).collect();
        let later = self.segments.iter().map(|segment| segment.timeline).filter(|timeline| Some(*timeline) > oldest);
        later.filter(|timeline| !there.contains(timeline)).collect()
    }

    /// C41: why it is not known which timeline is live for what was written on `from`: a later one has begun, and where it branched
    /// off cannot be read.
    pub fn unknown_line(&self, from: u32) -> Option<String> {
        let known = self.lineage.towards(from);
        let unread = self.unread.iter().find(|(timeline, _)| *timeline > known);
        let lost = || self.lost.iter().find(|timeline| **timeline > known);
        unread.map(|(_, error)| pgbosun_core::human::chain(error)).or_else(|| {
            lost().map(|timeline| {
                format!(
                    "{timeline:08X}.history is missing from the archive, which has WAL of that timeline and of earlier ones; \
                     if a server still has the file in its pg_wal, \"pgbosun wal push\" archives it"
                )
            })
        })
    }

    /// Words about a segment that is missing: it may be there and not to be believed (C42).
    pub fn how_missing(&self, segment: Segment) -> String {
        let file = WalFile::Segment(segment);
        match self.untrusted.iter().find(|(known, _)| *known == file) {
            Some((_, reason)) => counts_as_missing(reason),
            None => "is missing from the archive".into(),
        }
    }

    /// The stretches of a timeline.
    pub fn coverage(&self, timeline: u32) -> Vec<Coverage> {
        let mut stretches: Vec<Coverage> = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.timeline == timeline) {
            match stretches.last_mut() {
                Some(stretch) if stretch.last.next(self.segment_size) == *segment => {
                    stretch.last = *segment;
                    stretch.count += 1;
                }
                _ => stretches.push(Coverage { first: *segment, last: *segment, count: 1 }),
            }
        }
        stretches
    }

    /// C41: whether what follows a backup on timeline `from` is known to lead to `timeline`: its history is there, read or not, or a
    /// backup of it is the newest. An archive that was never begun knows nothing, and need not.
    pub fn knows(&self, timeline: u32, from: u32) -> bool {
        let unread = self.unread.iter().any(|(known, _)| *known >= timeline);
        self.segments.is_empty() || unread || self.lineage.towards(from) >= timeline
    }

    /// All timelines there is anything of.
    pub fn timelines(&self) -> BTreeSet<u32> {
        self.segments.iter().map(|segment| segment.timeline).chain(self.lineage.timelines()).collect()
    }

    /// The segment that holds a position on the line to `target`, if it is archived: of the newest timeline that has begun there
    /// (PostgreSQL: `XLogFileReadAnyTLI`).
    pub fn segment(&self, target: u32, lsn: Lsn) -> Option<Segment> {
        let mut segments = self.lineage.segments(target, lsn, self.segment_size).into_iter();
        segments.find(|segment| self.segments.contains(segment))
    }

    /// The first segment that a backup needs to be consistent, and that is not archived (C14).
    pub fn lacks(&self, info: &BackupInfo) -> Option<Segment> {
        let mut at = info.start_lsn.segment_start(self.segment_size);
        while at < info.stop_lsn {
            if self.segment(info.timeline, at).is_none() {
                return Some(Segment::holding(at, info.timeline, self.segment_size));
            }
            at = Lsn(at.0 + self.segment_size);
        }
        None
    }

    /// Where the archive goes on from a backup: in the segment that holds its end. Where that is not archived, and the backup has it
    /// whole, in the next one: a backup may be the last thing before archiving begins.
    pub fn onward(&self, target: u32, info: &BackupInfo) -> Lsn {
        let end = info.stop_lsn.segment_start(self.segment_size);
        let own = info.last_segment.as_ref().map(|last| last.end);
        let own = own.filter(|whole| *whole > end && info.object(ObjectKind::Wal).is_some());
        own.filter(|_| self.segment(target, end).is_none()).unwrap_or(info.stop_lsn)
    }

    /// C34: the first segment that is missing on the way from a position, where later ones of that line are archived: the way
    /// ends there, and that is not the end of the archive.
    pub fn missing(&self, target: u32, from: Lsn) -> Option<Segment> {
        let missing = self.end(target, from);
        let at = missing.start(self.segment_size);
        let beyond = |known: &Segment| known.start(self.segment_size) > at && self.is_on_line(target, *known);
        self.segments.iter().any(beyond).then_some(missing)
    }

    /// C34: what is missing between what is archived on the live line: the first segment of each gap, and how many. What an old primary
    /// wrote on a dead branch has none.
    pub fn gaps(&self) -> Vec<(Segment, u64)> {
        let newest = self.segments.last().map_or(1, |segment| segment.timeline);
        let target = self.lineage.towards(newest);
        let on_line = self.segments.iter().filter(|segment| self.is_on_line(target, **segment));
        let begins: BTreeSet<Lsn> = on_line.map(|segment| segment.start(self.segment_size)).collect();
        let pairs = begins.iter().zip(begins.iter().skip(1));
        let gap = |(before, after): (&Lsn, &Lsn)| {
            let first = Lsn(before.0 + self.segment_size);
            let missing = (after.0 - first.0) / self.segment_size.max(1);
            let of_line = self.lineage.segments(target, first, self.segment_size);
            Some((of_line.first().copied()?, missing)).filter(|_| missing > 0)
        };
        pairs.filter_map(gap).collect()
    }

    /// Whether a segment is one that the line to `target` takes, and no parent's that its child has as well.
    pub fn is_on_line(&self, target: u32, segment: Segment) -> bool {
        let begin = segment.start(self.segment_size);
        self.lineage.segments(target, begin, self.segment_size).first() == Some(&segment)
    }

    /// The first segment that is not archived on the line to `target`, from the one that holds `from` onwards.
    pub fn end(&self, target: u32, from: Lsn) -> Segment {
        let mut at = from.segment_start(self.segment_size);
        loop {
            // There is always one: the last stretch of a line is open.
            let eligible = self.lineage.segments(target, at, self.segment_size);
            let newest = eligible.first().copied().unwrap_or_else(|| Segment::holding(at, target, self.segment_size));
            if !self.segments.contains(&newest) {
                return newest;
            }
            at = Lsn(at.0 + self.segment_size);
        }
    }

    /// The segments from the one that holds `from` onwards along `target`, until the first that is missing. In the one in which a
    /// timeline branches off the parent's serves up to there, and nothing follows it.
    pub fn way(&self, target: u32, from: Lsn) -> impl Iterator<Item = Segment> + '_ {
        let mut at = Some(from.segment_start(self.segment_size));
        std::iter::from_fn(move || {
            let position = at?;
            let eligible = self.lineage.segments(target, position, self.segment_size);
            let segment = eligible.iter().find(|segment| self.segments.contains(segment)).copied()?;
            at = (eligible.first() == Some(&segment)).then_some(Lsn(position.0 + self.segment_size));
            Some(segment)
        })
    }

    /// Where that way ends before it has come to the target's own timeline: the place behind which what its parent wrote is on a dead
    /// branch (C41). PostgreSQL does not look at that: as long as it has found nothing of a timeline it takes whatever segments of
    /// the parent's there are.
    pub fn until(&self, target: u32, timeline: u32, from: Lsn) -> Option<Switch> {
        let parent = self.way(target, from).last().map_or(timeline, |last| last.timeline);
        let stretch = self.lineage.line(target).into_iter().find(|stretch| stretch.timeline == parent)?;
        stretch.end.map(|at| Switch { parent, at })
    }
}

/// Words about a segment that is there and of no use.
pub(crate) fn counts_as_missing(reason: &str) -> String {
    format!("counts as missing from the archive ({reason})")
}

#[cfg(test)]
mod reads;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn archive(segments: &[(u32, u32)], histories: &[(u32, &[(u32, u64)])]) -> Archive {
        Archive {
            segment_size: SIZE,
            segments: segments
                .iter()
                .map(|(timeline, number)| Segment { timeline: *timeline, log: 0, number: *number })
                .collect(),
            lineage: Lineage::new(
                histories
                    .iter()
                    .map(|(timeline, switches)| {
                        let switch = |(parent, at): &(u32, u64)| Switch { parent: *parent, at: Lsn(*at) };
                        (*timeline, switches.iter().map(switch).collect())
                    })
                    .collect(),
            ),
            ..Archive::default()
        }
    }

    #[test]
    fn gaps_are_seen() {
        let archive = archive(&[(1, 1), (1, 2), (1, 4), (1, 5), (1, 6)], &[]);
        let stretches: Vec<_> = archive.coverage(1).iter().map(|s| (s.first.number, s.last.number, s.count)).collect();
        assert_eq!(stretches, [(1, 2, 2), (4, 6, 3)]);
        assert_eq!(archive.way(1, Lsn(SIZE)).count(), 2);
        assert_eq!(archive.way(1, Lsn(3 * SIZE)).count(), 0);
        let missing = |from: u64| archive.missing(1, Lsn(from * SIZE)).map(|segment| segment.number);
        assert_eq!([missing(0), missing(1), missing(3), missing(4)], [Some(0), Some(3), Some(3), None]);
        let gaps: Vec<_> = archive.gaps().iter().map(|(first, count)| (first.number, *count)).collect();
        assert_eq!(gaps, [(3, 1)]);
    }

    #[test]
    fn the_way_over_a_promotion_takes_the_new_timeline_as_soon_as_it_has_begun() {
        // Timeline 2 branched off within segment 3; timeline 1 went on for a while on the old primary.
        let archive =
            archive(&[(1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (2, 5)], &[(2, &[(1, 3 * SIZE + 100)])]);
        let way: Vec<_> = archive.way(2, Lsn(SIZE)).map(|s| (s.timeline, s.number)).collect();
        assert_eq!(way, [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)]);
        assert_eq!(archive.way(1, Lsn(SIZE)).count(), 4);
    }

    #[test]
    fn c34_the_first_segment_of_a_timeline_is_missing_and_its_parents_stands_in_for_no_more_than_itself() {
        let branched: &[(u32, &[(u32, u64)])] = &[(2, &[(1, 3 * SIZE + 100)])];
        let archive = archive(&[(1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (2, 5)], branched);
        let way: Vec<_> = archive.way(2, Lsn(SIZE)).map(|s| (s.timeline, s.number)).collect();
        assert_eq!(way, [(1, 1), (1, 2), (1, 3)]);
        let missing = archive.missing(2, Lsn(SIZE)).map(|s| (s.timeline, s.number));
        assert_eq!(missing, Some((2, 3)));
        let gaps =
            |archive: &Archive| archive.gaps().iter().map(|(s, n)| (s.timeline, s.number, *n)).collect::<Vec<_>>();
        assert_eq!(gaps(&archive), [(2, 3, 1)]);
        // An old primary that goes on with holes in it.
        let dead = super::tests::archive(&[(1, 2), (2, 3), (2, 4), (1, 5), (1, 9)], branched);
        assert_eq!(gaps(&dead), []);
        assert_eq!(archive.missing(1, Lsn(SIZE)), None);
        let left = Some(Switch { parent: 1, at: Lsn(3 * SIZE + 100) });
        assert_eq!([archive.until(2, 1, Lsn(SIZE)), archive.until(2, 1, Lsn(8 * SIZE))], [left, left]);
        assert_eq!(archive.until(2, 1, Lsn(4 * SIZE)), None, "it has come to the timeline itself");
        assert_eq!(archive.until(1, 1, Lsn(SIZE)), None, "its own line goes on");
        assert!(archive.knows(2, 1) && archive.knows(3, 3) && !archive.knows(3, 1) && Archive::default().knows(3, 1));
    }

    #[test]
    fn c34_an_archive_goes_on_from_the_end_of_a_backup_or_of_what_it_has_itself() {
        let mut info = crate::chain::tests::backup("a", 2 * SIZE, None);
        (info.stop_lsn, info.wal_segment_size) = (Lsn(2 * SIZE + 100), SIZE);
        let whole = pgbosun_repository::LastSegment { end: Lsn(3 * SIZE), sha256: "0".repeat(64) };
        let (after, both) = (archive(&[(1, 3), (1, 4)], &[]), archive(&[(1, 2), (1, 3)], &[]));
        let goes_on = |archive: &Archive, info: &BackupInfo| archive.onward(1, info).0 / SIZE;
        assert_eq!([goes_on(&after, &info), goes_on(&both, &info)], [2, 2]);
        info.last_segment = Some(whole);
        assert_eq!(goes_on(&after, &info), 2, "the WAL is not its own");
        let wal = pgbosun_repository::Object {
            name: "wal.0001.tar".into(),
            kind: ObjectKind::Wal,
            size: 1,
            sha256: String::new(),
            plain_size: 1,
        };
        info.objects.push(wal);
        assert_eq!([goes_on(&after, &info), goes_on(&both, &info)], [3, 2]);
    }
}
