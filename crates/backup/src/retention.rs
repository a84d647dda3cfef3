//! What stays and what goes: pure functions of the catalogue, the rules and the time (C7, C8, C11, C27, C33).

mod times;

use crate::chain::Entry;
use chrono::{DateTime, Datelike, Days, Utc};
use chrono_tz::Tz;
use pgbosun_core::{config::Retention, human, lsn::Lsn, wal::Segment};
use std::collections::{BTreeMap, BTreeSet};
use times::Dates;

/// A backup as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Label.
    pub label: String,
    /// System identifier.
    pub system_id: String,
    /// The backup it builds upon.
    pub parent: Option<String>,
    /// The job that took it.
    pub job: Option<String>,
    /// Timeline of its end: with the LSNs, its place in the order (C33).
    pub timeline: u32,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// First WAL position needed.
    pub start_lsn: Lsn,
    /// Consistent from here.
    pub stop_lsn: Lsn,
    /// Nothing is known against it or what it builds on (C27).
    pub good: bool,
    /// Verifications found nothing wrong with it and all it builds on.
    pub verified: bool,
    /// Why it stays whatever the rules say.
    pub kept: Option<String>,
}

impl Candidate {
    /// A backup of the catalogue.
    pub fn new(entry: &Entry) -> Self {
        let info = &entry.info;
        Self {
            label: info.label.clone(),
            system_id: info.system_id.clone(),
            parent: info.parent.clone(),
            job: info.job.clone(),
            timeline: info.timeline,
            started_at: info.started_at,
            finished_at: info.finished_at,
            start_lsn: info.start_lsn,
            stop_lsn: info.stop_lsn,
            good: entry.health().is_good(),
            verified: entry.health().is_verified(),
            kept: entry.kept().map(|why| format!("kept by hand: {why}")),
        }
    }
}

/// The dates that are believed of each, and the indices newest first by timeline and LSN (C33).
fn ordered(backups: &[&Candidate], now: DateTime<Utc>) -> (Vec<Dates>, Vec<usize>) {
    let mut order: Vec<usize> = (0..backups.len()).collect();
    order.sort_by_key(|index| {
        let known = backups[*index];
        (known.timeline, known.start_lsn, known.stop_lsn, *index)
    });
    let believed = times::believed(&order.iter().map(|index| backups[*index]).collect::<Vec<_>>(), now);
    let mut dates: Vec<_> = order.iter().copied().zip(believed).collect();
    dates.sort_by_key(|(index, _)| *index);
    order.reverse();
    (dates.into_iter().map(|(_, dates)| dates).collect(), order)
}

/// Which jobs' backups each rule governs.
pub type Rules = BTreeMap<String, Retention>;

/// Decides for each backup, in the order given, why it stays; `None` is why nothing keeps it any more.
///
/// `rules` are by job. Backups of jobs without a rule stay.
pub fn decide(backups: &[Candidate], rules: &Rules, zone: Tz, now: DateTime<Utc>) -> Vec<Option<String>> {
    let mut reasons: Vec<Option<String>> = vec![None; backups.len()];
    let (dates, order) = ordered(&backups.iter().collect::<Vec<_>>(), now);
    let mut keep = |index: usize, reason: String| {
        let slot: &mut Option<String> = &mut reasons[index];
        if slot.is_none() {
            *slot = Some(reason);
        }
    };
    for index in &order {
        let backup = &backups[*index];
        if let Some(why) = &backup.kept {
            keep(*index, why.clone());
        }
        match &backup.job {
            Some(job) if !rules.contains_key(job) => keep(*index, format!("no retention for job {job}")),
            None => keep(*index, "not taken by a job".into()),
            Some(_) => {}
        }
    }
    // C8: the last good one stays whatever else is said; where none is verified, the last one nothing speaks against.
    for (wanted, words) in [(true, "the newest verified one"), (false, "the newest one with no known fault")] {
        let newest = order.iter().find(|index| backups[**index].good && (backups[**index].verified || !wanted));
        if let Some(index) = newest {
            keep(*index, words.into());
        }
    }
    for (job, rule) in rules {
        let own: Vec<usize> = order.iter().copied().filter(|i| backups[*i].job.as_ref() == Some(job)).collect();
        of_job(backups, &dates, &own, rule, zone, now, &mut keep);
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
                Some((*index, format!("{} builds on it", backups[*dependent].label)))
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
    backups: &[Candidate],
    dates: &[Dates],
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
        let (backup, dates) = (&backups[*index], dates[*index]);
        if let Some(days) = rule.days.filter(|days| dates.started_at >= ago(*days)) {
            keep(*index, format!("younger than {}", human::count(days, "day")));
        }
        if let Some(count) = rule.count.filter(|count| verified_newer < *count) {
            keep(*index, format!("fewer than {count} newer ones are verified ({verified_newer})"));
        }
        // What serves the beginning of the window for point-in-time recovery is the newest good one before it.
        if let Some(days) = rule.wal_days.filter(|_| backup.good) {
            if dates.finished_at >= ago(days) {
                keep(*index, format!("needed to recover to any moment of the last {}", human::count(days, "day")));
            } else if !served {
                served = true;
                keep(
                    *index,
                    format!("the last one before the {} of point-in-time recovery", human::count(days, "day")),
                );
            }
        }
        if backup.verified {
            let local = dates.calendar.with_timezone(&zone);
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
            keep(*index, "not verified yet, nor is any newer one".into());
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
pub fn needed(retained: &[&Candidate], rules: &Rules, now: DateTime<Utc>) -> Needed {
    let (dates, order) = ordered(retained, now);
    let ranges = retained.iter().map(|backup| (backup.start_lsn, backup.stop_lsn)).collect();
    let windows: Vec<Option<u32>> = rules.values().map(|rule| rule.wal_days).collect();
    // One rule without a window keeps WAL from the oldest retained backup on, and the longest keeps most.
    let window = if windows.iter().any(Option::is_none) { None } else { windows.into_iter().flatten().max() };
    let serving: Vec<&Candidate> = match window {
        None => retained.to_vec(),
        Some(days) => {
            let from = now.checked_sub_days(Days::new(days.into())).unwrap_or(DateTime::<Utc>::MIN_UTC);
            let anchor = order.iter().find(|index| retained[**index].good && dates[**index].finished_at < from);
            let within = order.iter().filter(|index| dates[**index].finished_at >= from);
            // Without one before the window its beginning cannot be served; then all that is there serves.
            match anchor {
                None => retained.to_vec(),
                Some(_) => within.chain(anchor).map(|index| retained[*index]).collect(),
            }
        }
    };
    let floor = serving.iter().map(|backup| backup.start_lsn).min().unwrap_or_default();
    Needed { floor, ranges }
}

impl Needed {
    /// C32: what somebody reads now is needed as well.
    pub fn and_from(self, reads: impl IntoIterator<Item = Lsn>) -> Self {
        Self { floor: reads.into_iter().fold(self.floor, Lsn::min), ..self }
    }

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
