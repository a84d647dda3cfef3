//! The timelines of a cluster and how they descend from each other: the one rule that planning, listing, retention, monitors and
//! verification share (C41).
//!
//! A promotion begins a timeline with a number higher than any before, and archives where it branched off. So the live line is
//! that of the highest timeline whose history is known; what its ancestors wrote behind the branch is a dead branch, although an old
//! primary that nobody stopped may still be writing there.

use crate::{
    lsn::Lsn,
    wal::{Segment, Switch},
};
use std::collections::BTreeMap;

/// What is known of the timelines of one system identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    histories: BTreeMap<u32, Vec<Switch>>,
}

/// A timeline's part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: u32,
    /// Where it begins.
    pub begin: Lsn,
    /// Where its child on this line branches off; the last one is open.
    pub end: Option<Lsn>,
}

impl Lineage {
    /// Of history files: each timeline with its ancestors, oldest first.
    pub const fn new(histories: BTreeMap<u32, Vec<Switch>>) -> Self {
        Self { histories }
    }

    /// Adds what another archive of the same cluster knows.
    pub fn merge(&mut self, other: Self) {
        for (timeline, history) in other.histories {
            self.histories.entry(timeline).or_insert(history);
        }
    }

    /// The timelines whose history is known.
    pub fn timelines(&self) -> impl Iterator<Item = u32> + '_ {
        self.histories.keys().copied()
    }

    /// The timeline that is live: the highest whose history is known, and the first where there is none.
    pub fn live(&self) -> u32 {
        self.histories.keys().next_back().copied().unwrap_or(1)
    }

    /// The timeline to follow from what was written on `from`: the live one; where its history is not there yet, its own.
    pub fn towards(&self, from: u32) -> u32 {
        self.live().max(from)
    }

    /// The line that leads to a timeline, oldest first.
    pub fn line(&self, timeline: u32) -> Vec<Stretch> {
        let mut line = Vec::new();
        let mut begin = Lsn(0);
        for switch in self.histories.get(&timeline).into_iter().flatten() {
            line.push(Stretch { timeline: switch.parent, begin, end: Some(switch.at) });
            begin = switch.at;
        }
        line.push(Stretch { timeline, begin, end: None });
        line
    }

    /// Whether the line to `target` passes what `timeline` had written up to `lsn`.
    pub fn passes(&self, target: u32, timeline: u32, lsn: Lsn) -> bool {
        let mut line = self.line(target).into_iter();
        line.any(|stretch| stretch.timeline == timeline && stretch.end.is_none_or(|end| lsn <= end))
    }

    /// Where the live line left what `timeline` had written up to `lsn`: the live timeline. `None` for what lies on it.
    pub fn left_by(&self, timeline: u32, lsn: Lsn) -> Option<u32> {
        let live = self.towards(timeline);
        (!self.passes(live, timeline, lsn)).then_some(live)
    }

    /// The segments that may hold a position on the line to `target`, the newest timeline's first. The one in which a timeline
    /// branches off is written by both; the child's begins with what the parent's has up to there. What a parent wrote in later
    /// ones is not on the line.
    pub fn segments(&self, target: u32, lsn: Lsn, segment_size: u64) -> Vec<Segment> {
        let holds = |stretch: &Stretch| {
            let start = lsn.segment_start(segment_size);
            stretch.begin.segment_start(segment_size) <= start && stretch.end.is_none_or(|end| start < end)
        };
        let line = self.line(target);
        let holding = line.iter().rev().filter(|stretch| holds(stretch));
        holding.map(|stretch| Segment::holding(lsn, stretch.timeline, segment_size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn lineage(histories: &[(u32, &[(u32, u64)])]) -> Lineage {
        let switches =
            |all: &[(u32, u64)]| all.iter().map(|(parent, at)| Switch { parent: *parent, at: Lsn(*at) }).collect();
        Lineage::new(histories.iter().map(|(timeline, all)| (*timeline, switches(all))).collect())
    }

    #[test]
    fn c41_the_highest_timeline_is_live_and_what_was_written_behind_a_branch_is_not() {
        // 2 branched off 1 within segment 3, and 3 off 2 within segment 5; 1 was written on.
        let known = lineage(&[(2, &[(1, 3 * SIZE + 100)]), (3, &[(1, 3 * SIZE + 100), (2, 5 * SIZE + 8)])]);
        assert_eq!(known.live(), 3);
        assert_eq!(known.left_by(1, Lsn(3 * SIZE + 100)), None);
        assert_eq!(known.left_by(1, Lsn(3 * SIZE + 101)), Some(3));
        assert_eq!(known.left_by(2, Lsn(5 * SIZE)), None);
        assert_eq!(known.left_by(2, Lsn(6 * SIZE)), Some(3));
        assert_eq!(known.left_by(3, Lsn(9 * SIZE)), None);
        // A history that is not archived yet speaks against nobody.
        assert_eq!(known.left_by(4, Lsn(9 * SIZE)), None);
        assert_eq!(lineage(&[]).left_by(1, Lsn(9 * SIZE)), None);
        // Two that branched off the same one: the later promotion is live.
        let split = lineage(&[(2, &[(1, 3 * SIZE)]), (3, &[(1, 2 * SIZE)])]);
        assert_eq!((split.left_by(2, Lsn(4 * SIZE)), split.left_by(1, Lsn(2 * SIZE))), (Some(3), None));
    }

    #[test]
    fn c34_a_dead_branch_hides_no_gap() {
        let known = lineage(&[(2, &[(1, 3 * SIZE + 100)])]);
        let at = |number: u64| {
            let all = known.segments(2, Lsn(number * SIZE), SIZE).into_iter();
            all.map(|segment| (segment.timeline, segment.number)).collect::<Vec<_>>()
        };
        assert_eq!(at(2), [(1, 2)]);
        assert_eq!(at(3), [(2, 3), (1, 3)]);
        assert_eq!(at(4), [(2, 4)]);
        // Exactly between two segments the parent wrote nothing into the second.
        let even = lineage(&[(2, &[(1, 3 * SIZE)])]);
        assert_eq!(even.segments(2, Lsn(3 * SIZE), SIZE).len(), 1);
    }
}
