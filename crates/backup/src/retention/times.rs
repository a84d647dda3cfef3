//! What retention believes of the times backups were taken at (C33).
//!
//! Ages decide what goes, so a wrong clock must never make a backup look older than it is. LSNs say in which order backups were
//! taken, and their dates are made to follow that order, each as late as its neighbours allow. What does not fit is resolved
//! towards keeping more (C7).

use super::Candidate;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_repository::CLOCK_TOLERANCE;

/// A pause between two backups that is more than so many times as long as they usually are, and longer than [`LONG_PAUSE`], is
/// taken for a clock that jumped. Clocks that jump by less are found by comparing them (`expire::doubt`).
const USUAL_PAUSES: i32 = 10;
const LONG_PAUSE: TimeDelta = TimeDelta::days(120);

/// When a backup was taken, as far as that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dates {
    /// On which day of the calendar it counts.
    pub calendar: DateTime<Utc>,
    /// Its beginning, for its age.
    pub started_at: DateTime<Utc>,
    /// Its end, for its age.
    pub finished_at: DateTime<Utc>,
}

/// The dates of backups, oldest first by position. `now` is one more known time.
pub(super) fn believed(ordered: &[&Candidate], now: DateTime<Utc>) -> Vec<Dates> {
    let is_ahead = |known: &Candidate| known.started_at > now + CLOCK_TOLERANCE;
    // One that is dated in the future was taken no later than the next one that is not, or than now.
    let mut next = now;
    let mut calendar: Vec<DateTime<Utc>> = Vec::new();
    for known in ordered.iter().rev() {
        if !is_ahead(known) {
            next = known.started_at;
        }
        calendar.push(next);
    }
    calendar.reverse();
    // One that is dated back was taken no earlier than those before it.
    let mut latest = DateTime::<Utc>::MIN_UTC;
    let mut starts = calendar.clone();
    for start in &mut starts {
        latest = latest.max(*start);
        *start = latest;
    }
    discount(&mut starts, now);
    let dates = ordered.iter().zip(calendar).zip(starts);
    dates
        .map(|((known, calendar), started_at)| {
            let took = (known.finished_at - known.started_at).clamp(TimeDelta::zero(), TimeDelta::days(7));
            Dates { calendar, started_at, finished_at: started_at + took }
        })
        .collect()
}

/// A pause that is far longer than usual makes nothing older than a usual one would.
fn discount(starts: &mut [DateTime<Utc>], now: DateTime<Utc>) {
    let mut times = starts.to_vec();
    times.push(now);
    let pauses: Vec<TimeDelta> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = pauses.clone();
    sorted.sort();
    // The lower median: of two pauses one may be the jump.
    let usual = match sorted.len() {
        0 | 1 => TimeDelta::zero(),
        len => sorted[(len - 1) / 2],
    };
    let limit = (usual * USUAL_PAUSES).max(LONG_PAUSE);
    let mut shift = TimeDelta::zero();
    for (start, pause) in starts.iter_mut().zip(&pauses).rev() {
        if *pause > limit {
            shift += *pause - usual;
        }
        *start = (*start + shift).min(now);
    }
}
