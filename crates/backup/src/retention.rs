//! What stays and what goes: pure functions of the catalogue, the rules and the time (C7, C8, C11).

use chrono::{DateTime, Datelike, Days, Utc};
use chrono_tz::Tz;
use pgbosun_core::{config::Retention, lsn::Lsn, wal::Segment};
use pgbosun_repository::BackupInfo;
use std::collections::{BTreeMap, BTreeSet};

/// A backup as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Label.
    pub label: String,
    /// System identifier.
    pub system_id: String,
    /// The backup it builds upon.
    pub parent: Option<String>,
    /// The job that took it.
    pub job: Option<String>,
    /// Begin: C10, backups are ordered by it.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// First WAL position needed.
    pub start_lsn: Lsn,
    /// Consistent from here.
    pub stop_lsn: Lsn,
    /// Nothing is known against it.
    pub good: bool,
    /// A verification found nothing wrong with it.
    pub verified: bool,
    /// Somebody said that it stays.
    pub kept: Option<String>,
}

impl Known {
    /// A backup of the catalogue. `verified` is what the last verification said, if there was one.
    pub fn new(info: &BackupInfo, verified: Option<bool>, kept: Option<String>) -> Self {
        Self {
            label: info.label.clone(),
            system_id: info.system_id.clone(),
            parent: info.parent.clone(),
            job: info.job.clone(),
            started_at: info.started_at,
            finished_at: info.finished_at,
            start_lsn: info.start_lsn,
            stop_lsn: info.stop_lsn,
            good: !info.checksum_failures && verified != Some(false),
            verified: !info.checksum_failures && verified == Some(true),
            kept,
        }
    }
}

/// Which jobs' backups each rule governs.
pub type Rules = BTreeMap<String, Retention>;

/// Decides for each backup, in the order given, why it stays; `None` is why nothing keeps it any more.
///
/// `rules` are by job. Backups of jobs without a rule stay.
pub fn decide(backups: &[Known], rules: &Rules, zone: Tz, now: DateTime<Utc>) -> Vec<Option<String>> {
    let mut reasons: Vec<Option<String>> = vec![None; backups.len()];
    let mut order: Vec<usize> = (0..backups.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse((backups[*index].started_at, *index)));
    let mut keep = |index: usize, reason: String| {
        let slot: &mut Option<String> = &mut reasons[index];
        if slot.is_none() {
            *slot = Some(reason);
        }
    };
    for index in &order {
        let backup = &backups[*index];
        if let Some(who) = &backup.kept {
            keep(*index, format!("kept by hand: {who}"));
        }
        match &backup.job {
            Some(job) if !rules.contains_key(job) => keep(*index, format!("no retention for job {job}")),
            None => keep(*index, "taken by no job".into()),
            Some(_) => {}
        }
    }
    // C8: the last good one stays whatever else is said; where none is verified, the last one nothing speaks against.
    for (wanted, words) in [(true, "the newest verified one"), (false, "the newest one nothing speaks against")] {
        let newest = order.iter().find(|index| backups[**index].good && (backups[**index].verified || !wanted));
        if let Some(index) = newest {
            keep(*index, words.into());
        }
    }
    for (job, rule) in rules {
        let own: Vec<usize> = order.iter().copied().filter(|i| backups[*i].job.as_ref() == Some(job)).collect();
        of_job(backups, &own, rule, zone, now, &mut keep);
    }
    // C11: what a retained one builds upon stays.
    loop {
        let needed: Vec<(usize, String)> = order
            .iter()
            .filter(|index| reasons[**index].is_none())
            .filter_map(|index| {
                let dependent = order.iter().find(|other| {
                    reasons[**other].is_some() && backups[**other].parent.as_ref() == Some(&backups[*index].label)
                })?;
                Some((*index, format!("{} builds upon it", backups[*dependent].label)))
            })
            .collect();
        if needed.is_empty() {
            return reasons;
        }
        for (index, reason) in needed {
            reasons[index] = Some(reason);
        }
    }
}

/// `own`: the backups of one job, newest first.
fn of_job(
    backups: &[Known],
    own: &[usize],
    rule: &Retention,
    zone: Tz,
    now: DateTime<Utc>,
    keep: &mut dyn FnMut(usize, String),
) {
    let ago = |days: u32| now.checked_sub_days(Days::new(days.into())).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let mut verified_newer = 0;
    let mut served = false;
    let mut seen: [BTreeSet<(i32, u32)>; 3] = Default::default();
    for index in own {
        let backup = &backups[*index];
        if let Some(days) = rule.days.filter(|days| backup.started_at >= ago(*days)) {
            keep(*index, format!("younger than {days} days"));
        }
        if let Some(count) = rule.count.filter(|count| verified_newer < *count) {
            keep(*index, format!("fewer than {count} newer ones are verified ({verified_newer})"));
        }
        // What serves the beginning of the window for point-in-time recovery is the newest good one before it.
        if let Some(days) = rule.wal_days.filter(|_| backup.good) {
            if backup.finished_at >= ago(days) {
                keep(*index, format!("needed to recover to any moment of {days} days"));
            } else if !served {
                served = true;
                keep(*index, format!("the last one before the {days} days of point-in-time recovery"));
            }
        }
        if backup.verified {
            let local = backup.started_at.with_timezone(&zone);
            let periods = [
                (rule.daily, (local.year(), local.ordinal()), "day"),
                (rule.weekly, (local.iso_week().year(), local.iso_week().week()), "week"),
                (rule.monthly, (local.year(), local.month()), "month"),
            ];
            for ((limit, period, word), seen) in periods.into_iter().zip(&mut seen) {
                let room = limit.is_some_and(|limit| (seen.len() as u32) < limit);
                if room && seen.insert(period) {
                    keep(*index, format!("the newest verified one of its {word}"));
                }
            }
            verified_newer += 1;
        } else if backup.good && [rule.daily, rule.weekly, rule.monthly].iter().flatten().any(|_| verified_newer == 0) {
            keep(*index, "not verified yet, and no newer one is".into());
        }
    }
}

/// Which WAL of one system identifier is needed (C7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Everything from here on, on every timeline.
    floor: Lsn,
    /// And what makes each retained backup consistent.
    ranges: Vec<(Lsn, Lsn)>,
}

/// What the retained backups of one system identifier need. Without any, everything is needed.
pub fn needed(retained: &[&Known], rules: &Rules, now: DateTime<Utc>) -> Needed {
    let ranges = retained.iter().map(|backup| (backup.start_lsn, backup.stop_lsn)).collect();
    let windows: Vec<Option<u32>> = rules.values().map(|rule| rule.wal_days).collect();
    // One rule without a window keeps WAL from the oldest retained backup on, and the longest keeps most.
    let window = if windows.iter().any(Option::is_none) { None } else { windows.into_iter().flatten().max() };
    let serving: Vec<&&Known> = match window {
        None => retained.iter().collect(),
        Some(days) => {
            let from = now.checked_sub_days(Days::new(days.into())).unwrap_or(DateTime::<Utc>::MIN_UTC);
            let before = retained.iter().filter(|backup| backup.good && backup.finished_at < from);
            let anchor = before.max_by_key(|backup| backup.started_at);
            let within = retained.iter().filter(|backup| backup.finished_at >= from);
            // Without one before the window its beginning cannot be served; then all that is there serves.
            if anchor.is_none() { retained.iter().collect() } else { within.chain(anchor).collect() }
        }
    };
    let floor = serving.iter().map(|backup| backup.start_lsn).min().unwrap_or_default();
    Needed { floor, ranges }
}

impl Needed {
    /// Whether a segment must stay.
    pub fn keeps(&self, segment: Segment, segment_size: u64) -> bool {
        let start = segment.start(segment_size);
        let end = Lsn(start.0 + segment_size);
        // Positions are compared on every timeline alike: more may stay than must, never less.
        end > self.floor || self.ranges.iter().any(|(from, to)| end > *from && start <= *to)
    }
}

#[cfg(test)]
mod tests;
