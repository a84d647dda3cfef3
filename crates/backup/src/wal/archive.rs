//! What lies in the archive, over all repositories: continuity per timeline, and which way recovery can go. The one rule
//! that listing, restoring and retention share.

use crate::Error;
use pgbosun_core::{
    lsn::Lsn,
    wal::{Segment, Switch, WalFile, history},
};
use pgbosun_repository::{Repository, WalArchive, WalObject};
use std::collections::{BTreeMap, BTreeSet};

/// Everything archived of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Whole segments.
    pub segments: BTreeSet<Segment>,
    /// Ancestors of each timeline with a history file.
    pub histories: BTreeMap<u32, Vec<Switch>>,
    /// Bytes stored, over all repositories.
    pub stored_bytes: u64,
    /// Two files under one name (C2).
    pub conflicts: Vec<String>,
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
            match place.list().await {
                Ok(objects) => {
                    archive.add(&place, objects).await?;
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
    pub async fn add(&mut self, place: &WalArchive, objects: Vec<WalObject>) -> Result<(), Error> {
        for pair in objects.windows(2).filter(|pair| pair[0].file == pair[1].file && pair[0].sha256 != pair[1].sha256) {
            self.conflicts.push(pair[0].file.to_string());
        }
        for object in objects {
            self.stored_bytes += object.size;
            match object.file {
                WalFile::Segment(segment) => drop(self.segments.insert(segment)),
                WalFile::History(timeline) if !self.histories.contains_key(&timeline) => {
                    let text = place.get(&object).await?;
                    let damaged = |reason| pgbosun_repository::Error::Damaged { object: object.key.clone(), reason };
                    let switches = history(&String::from_utf8_lossy(&text)).map_err(damaged)?;
                    self.histories.insert(timeline, switches);
                }
                _ => {}
            }
        }
        Ok(())
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
        self.segments.iter().map(|segment| segment.timeline).chain(self.histories.keys().copied()).collect()
    }

    /// True where recovery along timeline `target` passes `lsn` on timeline `from`: it is that timeline, or one that
    /// branched off it later.
    pub fn passes(&self, target: u32, from: u32, lsn: Lsn) -> bool {
        target == from
            || self
                .histories
                .get(&target)
                .is_some_and(|switches| switches.iter().any(|switch| switch.parent == from && lsn <= switch.at))
    }

    /// The newest timeline that recovery from this position can follow.
    pub fn latest_timeline(&self, from: u32, lsn: Lsn) -> u32 {
        self.histories
            .keys()
            .copied()
            .filter(|timeline| self.passes(*timeline, from, lsn))
            .max()
            .unwrap_or(from)
            .max(from)
    }

    /// The segment that holds a position on the way along `target`, if it is archived: of the newest timeline that has
    /// begun there (PostgreSQL: `XLogFileReadAnyTLI`).
    pub fn segment(&self, target: u32, lsn: Lsn) -> Option<Segment> {
        let mut ways = vec![(target, Lsn(0))];
        if let Some(switches) = self.histories.get(&target) {
            // Each timeline begins where its parent's line says that it ended.
            let mut begins: Vec<(u32, Lsn)> = Vec::new();
            let mut begin = Lsn(0);
            for switch in switches {
                begins.push((switch.parent, begin));
                begin = switch.at;
            }
            begins.push((target, begin));
            ways = begins;
        }
        let eligible = ways.into_iter().rev().filter(|(_, begin)| begin.segment_start(self.segment_size) <= lsn);
        let mut segments = eligible.map(|(timeline, _)| Segment::holding(lsn, timeline, self.segment_size));
        segments.find(|segment| self.segments.contains(segment))
    }

    /// C34: the first segment that is missing on the way from a position, where later ones of that timeline are archived: the way
    /// ends there, and that is not the end of the archive. Where nothing before it is archived either, archiving began later, and
    /// nothing is missing.
    pub fn missing(&self, target: u32, from: Lsn) -> Option<Segment> {
        let reached =
            self.way(target, from).last().map(|last| Lsn(last.start(self.segment_size).0 + self.segment_size));
        let missing = Segment::holding(reached.unwrap_or(from), target, self.segment_size);
        let later = self.segments.iter().any(|known| known.timeline == target && *known > missing);
        let before = reached.is_some() || self.segments.iter().any(|known| known.start(self.segment_size) < from);
        (later && before).then_some(missing)
    }

    /// The segments from the one that holds `from` onwards along `target`, until the first that is missing.
    pub fn way(&self, target: u32, from: Lsn) -> impl Iterator<Item = Segment> + '_ {
        let mut at = from.segment_start(self.segment_size);
        std::iter::from_fn(move || {
            let segment = self.segment(target, at)?;
            at = Lsn(at.0 + self.segment_size);
            Some(segment)
        })
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
            histories: histories
                .iter()
                .map(|(timeline, switches)| {
                    (*timeline, switches.iter().map(|(parent, at)| Switch { parent: *parent, at: Lsn(*at) }).collect())
                })
                .collect(),
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
        assert!(archive.passes(2, 1, Lsn(3 * SIZE)) && !archive.passes(2, 1, Lsn(3 * SIZE + 101)));
        assert_eq!(archive.latest_timeline(1, Lsn(2 * SIZE)), 2);
        assert_eq!(archive.latest_timeline(1, Lsn(4 * SIZE)), 1);
    }
}
