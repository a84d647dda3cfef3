//! Moments that lie on a branch which the followed timeline left (C41).
//!
//! After a restore to an earlier moment, or a promotion, the live timeline has nothing of what the one before it wrote behind the place
//! where it branched off. Who asks for a moment between that place and the first transaction of the new timeline may mean what the old
//! one wrote then: "one minute too early, once more" is the usual case. PostgreSQL would stop at the branch without a word.

use super::{Error, Planner, shown};
use crate::wal::{Event, Scanner};
use chrono::{DateTime, Utc};
use pgbosun_core::{lsn::Lsn, wal::Segment};
use pgbosun_repository::BackupInfo;

/// Segments that are read on each side of a branch: a timeline that wrote nothing for longer is not checked further.
const FAR: usize = 64;

impl Planner<'_> {
    /// Refuses a moment of which only the timeline before has anything, unless a timeline was named.
    pub(super) async fn check_branch(&self, info: &BackupInfo, time: DateTime<Utc>) -> Result<(), Error> {
        if self.request.timeline.is_some() {
            return Ok(());
        }
        let target = self.timeline(info);
        let line = self.archive.lineage.line(target);
        for pair in line.windows(2).filter(|pair| pair[0].end.is_some_and(|at| at >= info.stop_lsn)) {
            let (parent, child) = (pair[0].timeline, pair[1].timeline);
            let at = pair[1].begin;
            let own: Vec<_> = self.archive.way(target, at).take(FAR).collect();
            if self.first_end(own, at).await?.is_some_and(|first| first <= time) {
                continue;
            }
            let size = self.archive.segment_size;
            let first = Segment::holding(at, parent, size);
            let left = std::iter::successors(Some(first), |segment| Some(segment.next(size)));
            let left = left.take_while(|segment| self.archive.segments.contains(segment)).take(FAR).collect();
            let Some(first) = self.first_end(left, at).await?.filter(|first| *first <= time) else { continue };
            return Err(Error::Refused(format!(
                "timeline {child} branched off timeline {parent} at {at} and has no transaction up to {}; timeline {parent} \
                 has some, from {} on: --timeline {parent} restores along it, --timeline {target} only to where it was left",
                shown(time),
                shown(first)
            )));
        }
        Ok(())
    }

    /// When the first transaction at or behind a position ended in these segments.
    async fn first_end(&self, segments: Vec<Segment>, from: Lsn) -> Result<Option<DateTime<Utc>>, Error> {
        let (mut scanner, mut first) = (Scanner::default(), None);
        for segment in segments {
            // It decides whether somebody is asked, no more: what cannot be read there must not keep a restore that does without.
            let bytes = match self.read(segment).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::warn!(%segment, "not read: {}", pgbosun_core::human::chain(&error));
                    break;
                }
            };
            scanner.segment(&bytes, &mut |event| {
                if let Event::End { time, at, .. } = event
                    && at >= from
                {
                    first = first.or(Some(time));
                }
            });
            if first.is_some() {
                break;
            }
        }
        Ok(first)
    }
}
