//! A cron expression in a time zone: its instants in UTC, right across daylight-saving changes.
//!
//! A fixed-time job (`30 2 * * *`) runs in a gap at the first valid moment after it, in an overlap once, in the
//! first pass. An interval job (`*/5 * * * *`) follows elapsed time: both passes of an overlap, nothing in a gap.

use super::Cron;
use chrono::{DateTime, Duration, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// The widest daylight-saving change looked back over; real ones are at most two hours.
const WIDEST_SHIFT: Duration = Duration::hours(3);

/// The instants of `cron` in `zone` strictly after `after`, in order, without end for a recurring expression.
pub fn occurrences(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
    std::iter::successors(next(cron, zone, after), move |last| next(cron, zone, *last))
}

fn next(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if cron.is_interval() { next_by_elapsed_time(cron, zone, after) } else { next_by_wall_clock(cron, zone, after) }
}

fn next_by_wall_clock(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut wall = after.with_timezone(&zone).naive_local() - WIDEST_SHIFT;
    loop {
        wall = cron.next_naive(wall)?;
        let instant = first_instant(zone, wall)?;
        if instant > after {
            return Some(instant);
        }
    }
}

/// The instant at which clocks in `zone` first show `wall` or, where they skip it, the first moment after the gap.
fn first_instant(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(t) | MappedLocalTime::Ambiguous(t, _) => Some(t.with_timezone(&Utc)),
        MappedLocalTime::None => {
            // Offsets differ by at most a day on either side of the gap, so the change lies in this window.
            let near = Utc.from_utc_datetime(&wall);
            change_between(zone, near - Duration::hours(26), near + Duration::hours(26))
        }
    }
}

fn next_by_elapsed_time(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut from = after;
    loop {
        let offset = offset_at(zone, from);
        let instant = (cron.next_naive(from.naive_utc() + offset)? - offset).and_utc();
        if offset_at(zone, instant) == offset {
            return Some(instant);
        }
        // The offset changes on the way: go on from the last second before the change, in the new offset.
        let change = change_between(zone, from, instant)?;
        let offset = offset_at(zone, change);
        let instant = (cron.next_naive(change.naive_utc() + offset - Duration::seconds(1))? - offset).and_utc();
        if offset_at(zone, instant) == offset {
            return Some(instant);
        }
        from = change;
    }
}

fn offset_at(zone: Tz, at: DateTime<Utc>) -> Duration {
    Duration::seconds(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into())
}

/// The first second in `(low, high]` whose offset differs from that of `low`, searched by halving: a window
/// that holds two opposite changes may show none, so callers keep it short of the months between changes.
fn change_between(zone: Tz, mut low: DateTime<Utc>, high: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let before = offset_at(zone, low);
    let mut probe = low;
    // Step by a week first, so that the halving never jumps over a pair of changes.
    let mut high = loop {
        probe = (probe + Duration::days(7)).min(high);
        if offset_at(zone, probe) != before {
            break probe;
        }
        low = probe;
        if probe >= high {
            return None;
        }
    };
    while high - low > Duration::seconds(1) {
        let middle = low + (high - low) / 2;
        let middle = middle - Duration::nanoseconds(middle.timestamp_subsec_nanos().into());
        if middle <= low {
            break;
        }
        if offset_at(zone, middle) == before { low = middle } else { high = middle }
    }
    Some(high)
}

/// A change of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The first instant of the new offset.
    pub at: DateTime<Utc>,
    /// How far the clocks jump; positive is forward.
    pub by: Duration,
}

/// The changes of the clocks of `zone` in `(from, until]`.
pub fn shifts(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Shift> {
    let mut found = Vec::new();
    let mut from = from;
    while let Some(at) = change_between(zone, from, until) {
        let by = offset_at(zone, at) - offset_at(zone, at - Duration::seconds(1));
        found.push(Shift { at, by });
        from = at;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(expression: &str, zone: Tz, after: &str, take: usize) -> Vec<String> {
        let after = after.parse().unwrap();
        let cron: Cron = expression.parse().unwrap();
        occurrences(&cron, zone, after)
            .take(take)
            .map(|t| t.with_timezone(&zone).format("%m-%d %H:%M%z").to_string())
            .collect()
    }

    const BERLIN: Tz = chrono_tz::Europe::Berlin;
    const NEW_YORK: Tz = chrono_tz::America::New_York;

    #[test]
    fn fixed_time_job_in_the_gap_runs_at_its_end_once() {
        assert_eq!(
            local("30 2 * * *", BERLIN, "2027-03-27T00:00:00Z", 3),
            ["03-27 02:30+0100", "03-28 03:00+0200", "03-29 02:30+0200"]
        );
        assert_eq!(
            local("30 2 * * *", NEW_YORK, "2027-03-13T06:00:00Z", 3),
            ["03-13 02:30-0500", "03-14 03:00-0400", "03-15 02:30-0400"]
        );
        // Several times within one gap are one run.
        assert_eq!(
            local("0,20,40 2 * * *", BERLIN, "2027-03-27T22:00:00Z", 2),
            ["03-28 03:00+0200", "03-29 02:00+0200"]
        );
    }

    #[test]
    fn fixed_time_job_in_the_overlap_runs_once_in_the_first_pass() {
        assert_eq!(
            local("30 2 * * *", BERLIN, "2026-10-24T00:00:00Z", 3),
            ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"]
        );
        assert_eq!(
            local("30 1 * * *", NEW_YORK, "2026-10-31T04:00:00Z", 3),
            ["10-31 01:30-0400", "11-01 01:30-0400", "11-02 01:30-0500"]
        );
        // Asked from within the second pass, the next one is tomorrow.
        assert_eq!(local("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1), ["10-26 02:30+0100"]);
    }

    #[test]
    fn interval_job_follows_elapsed_time() {
        for (zone, around) in [(BERLIN, "2027-03-28T00:00:00Z"), (BERLIN, "2026-10-25T00:00:00Z")]
            .into_iter()
            .chain([(NEW_YORK, "2027-03-14T05:00:00Z"), (NEW_YORK, "2026-11-01T04:00:00Z")])
        {
            let start: DateTime<Utc> = around.parse().unwrap();
            let cron: Cron = "*/5 * * * *".parse().unwrap();
            let ticks: Vec<_> = occurrences(&cron, zone, start).take(48).collect();
            for (n, tick) in ticks.iter().enumerate() {
                assert_eq!(*tick, start + Duration::minutes(5 * (n as i64 + 1)), "{zone} {around}");
            }
        }
        assert_eq!(
            local("30 * * * *", BERLIN, "2026-10-24T23:45:00Z", 3),
            ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"]
        );
        assert_eq!(
            local("30 * * * *", BERLIN, "2027-03-28T00:00:00Z", 3),
            ["03-28 01:30+0100", "03-28 03:30+0200", "03-28 04:30+0200"]
        );
    }

    #[test]
    fn yearly_jobs_and_half_hour_zones() {
        assert_eq!(local("0 3 1 7 *", BERLIN, "2026-11-21T00:00:00Z", 1), ["07-01 03:00+0200"]);
        let lord_howe = chrono_tz::Australia::Lord_Howe; // shifts by half an hour
        let cron: Cron = "*/10 * * * *".parse().unwrap();
        let start: DateTime<Utc> = "2026-10-03T14:00:00Z".parse().unwrap();
        let ticks: Vec<_> = occurrences(&cron, lord_howe, start).take(30).collect();
        assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == Duration::minutes(10)));
    }

    #[test]
    fn shifts_are_found_with_their_size() {
        let found = shifts(BERLIN, "2026-10-01T00:00:00Z".parse().unwrap(), "2027-04-01T00:00:00Z".parse().unwrap());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Shift { at: "2026-10-25T01:00:00Z".parse().unwrap(), by: -Duration::hours(1) });
        assert_eq!(found[1], Shift { at: "2027-03-28T01:00:00Z".parse().unwrap(), by: Duration::hours(1) });
    }

    proptest::proptest! {
        #[test]
        fn occurrences_rise_strictly_and_agree_from_any_start(
            minute in 0_u32..60, hour in 0_u32..24, starred in proptest::bool::ANY, start in 0_i64..63_072_000, skip in 1_i64..100_000
        ) {
            let expression = if starred { format!("{minute} * * * *") } else { format!("{minute} {hour} * * *") };
            let cron: Cron = expression.parse().unwrap();
            let start = DateTime::from_timestamp(1_767_225_600 + start, 0).unwrap();
            let ticks: Vec<_> = occurrences(&cron, BERLIN, start).take(12).collect();
            proptest::prop_assert!(ticks[0] > start && ticks.windows(2).all(|pair| pair[0] < pair[1]));
            let later = start + Duration::seconds(skip);
            if let Some(expected) = ticks.into_iter().find(|t| *t > later) {
                proptest::prop_assert_eq!(occurrences(&cron, BERLIN, later).next(), Some(expected));
            }
        }
    }
}
