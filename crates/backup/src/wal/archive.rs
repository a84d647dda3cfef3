//! What lies in the archive, over all repositories: continuity per timeline, and which way recovery can go. The one rule
//! that listing, restoring and retention share.

use crate::Error;
use pgbosun_core::{
    lineage::Lineage,
    lsn::Lsn,
    wal::{Segment, Switch, WalFile},
};
use pgbosun_repository::{BackupInfo, Repository, WalArchive, WalContents};
use std::collections::BTreeSet;

/// Everything archived of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Whole segments.
    pub segments: BTreeSet<Segment>,
    /// How its timelines descend from each other.
    pub lineage: Lineage,
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
    /// Reads what there is. Of several repositories one that cannot be asked is passed over: the others must serve.
    ///
    /// # Errors
    /// Where no repository can be asked, or a history file cannot be read.
    pub async fn read(
        repositories: &[Repository],
        cluster: &str,
        system_id: &str,
        segment_size: u64,
    ) -> Result<Self, Error> {
        let mut archive = Self { segment_size, ..Self::default() };
        let (mut asked, mut away) = (0, None);
        for repository in repositories {
            let place = WalArchive::new(repository, cluster, system_id);
            match place.contents().await {
                Ok(contents) => {
                    archive.add(&place, contents).await?;
                    asked += 1;
                }
                Err(error) => {
                    if repositories.len() > 1 {
                        let reason = pgbosun_core::human::chain(&error);
                        tracing::warn!(repository = repository.name, "its WAL is passed over: {reason}");
                    }
                    away = away.or(Some(error));
                }
            }
        }
        match away {
            Some(error) if asked == 0 => Err(error.into()),
            _ => Ok(archive),
        }
    }

    /// Adds what one repository has.
    ///
    /// # Errors
    /// Where a history file cannot be read.
    pub async fn add(&mut self, place: &WalArchive, contents: WalContents) -> Result<(), Error> {
        let WalContents { believed: objects, untrusted } = contents;
        self.untrusted.extend(untrusted.iter().map(|object| (object.file.clone(), object.untrusted().to_string())));
        for pair in objects.windows(2).filter(|pair| pair[0].file == pair[1].file && pair[0].sha256 != pair[1].sha256) {
            self.conflicts.push(pair[0].file.to_string());
        }
        self.lineage.merge(place.lineage_of(&objects).await?);
        for object in objects {
            self.stored_bytes += object.size;
            if let WalFile::Segment(segment) = object.file {
                self.segments.insert(segment);
            }
        }
        Ok(())
    }

    /// Words about a segment that is missing: it may be there and not to be believed (C42).
    pub fn how_missing(&self, segment: Segment) -> String {
        let file = WalFile::Segment(segment);
        match self.untrusted.iter().find(|(known, _)| *known == file) {
            Some((_, reason)) => format!("counts as missing in the archive ({reason})"),
            None => "is missing in the archive".into(),
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

    /// C34: the first segment that is missing on the way from a position, where later ones of that line are archived: the way
    /// ends there, and that is not the end of the archive. Where nothing before it is archived either, archiving began later, and
    /// nothing is missing.
    pub fn missing(&self, target: u32, from: Lsn) -> Option<Segment> {
        let missing = self.end(target, from);
        let at = missing.start(self.segment_size);
        let begun = |known: &Segment| known.start(self.segment_size) < from;
        let beyond = |known: &Segment| known.start(self.segment_size) > at && self.is_on_line(target, *known);
        let later = self.segments.iter().any(beyond);
        let before = self.way(target, from).next().is_some() || self.segments.iter().any(begun);
        (later && before).then_some(missing)
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
        assert_eq!([missing(0), missing(1), missing(3), missing(4)], [None, Some(3), Some(3), None]);
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
        assert_eq!(archive.missing(1, Lsn(SIZE)), None);
        let left = Some(Switch { parent: 1, at: Lsn(3 * SIZE + 100) });
        assert_eq!([archive.until(2, 1, Lsn(SIZE)), archive.until(2, 1, Lsn(8 * SIZE))], [left, left]);
        assert_eq!(archive.until(2, 1, Lsn(4 * SIZE)), None, "it has come to the timeline itself");
        assert_eq!(archive.until(1, 1, Lsn(SIZE)), None, "its own line goes on");
    }
}
