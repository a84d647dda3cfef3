//! The order of backups: by what the server counts, not by what a clock said (C33).
//!
//! Within a system, backups are ordered by timeline and LSN. Clocks only label: one that was wrong for a night must not decide
//! which backup is the newest. Which of several systems of a cluster is the current one is the only question that LSNs cannot
//! answer; there the latest plausible time decides.

use crate::BackupInfo;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::lsn::Lsn;
use std::collections::HashMap;

/// Clocks of two machines that are synchronized never differ by so much. What is dated later than this from now is dated in the
/// future.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::hours(1);

impl BackupInfo {
    /// Where it stands among the backups of its system.
    pub fn position(&self) -> (u32, Lsn, Lsn) {
        (self.timeline, self.start_lsn, self.stop_lsn)
    }

    /// Whether it is dated in the future: the clock was wrong when it was taken, or is wrong now.
    pub fn is_dated_ahead(&self, now: DateTime<Utc>) -> bool {
        self.started_at.max(self.finished_at) > now + CLOCK_TOLERANCE
    }
}

/// Sorts oldest first, system by system, the current system of each cluster last.
pub fn sort_backups<T>(items: &mut [T], of: impl Fn(&T) -> &BackupInfo, now: DateTime<Utc>) {
    let mut latest: HashMap<(String, String), DateTime<Utc>> = HashMap::new();
    for info in items.iter().map(&of).filter(|info| !info.is_dated_ahead(now)) {
        let latest = latest.entry((info.cluster.clone(), info.system_id.clone())).or_insert(info.started_at);
        *latest = info.started_at.max(*latest);
    }
    items.sort_by_cached_key(|item| {
        let info = of(item);
        let system = (info.cluster.clone(), info.system_id.clone());
        let latest = latest.get(&system).copied();
        (system.0, latest, system.1, info.position(), info.label.clone())
    });
}
