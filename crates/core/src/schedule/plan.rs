//! The planner: which runs are due now, and which times were missed. Every wake-up asks it.
//!
//! It looks at the occurrences in `(planned until, now]`, so that a lost, early or doubled wake-up, a clock that
//! jumped, a daylight-saving change and downtime are all one mechanism. At most one run comes out of one look:
//! several due times collapse into the newest, the older ones are missed.

use super::{Cron, occurrences};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

/// What to do after downtime with a time that passed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// Record it as missed.
    None,
    /// Run once, for the newest of them.
    Once,
}

/// The rules of one job that decide between running late and missing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Downtime policy.
    pub catch_up: CatchUp,
    /// The latest a run may start after its time.
    pub start_deadline: Duration,
}

/// How a due run relates to its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Within a minute of its time.
    OnTime,
    /// Later: the clock jumped, the machine slept, or the daemon was down.
    Late,
}

/// One run to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The time it was scheduled for.
    pub scheduled_for: DateTime<Utc>,
    /// Whether that was just now.
    pub lateness: Lateness,
}

/// What one look at a job found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The run to start, if one is due.
    pub due: Option<Due>,
    /// Times that will not be run, oldest first, at most [`MISSED_LISTED`].
    pub missed: Vec<DateTime<Utc>>,
    /// How many more were missed before those.
    pub missed_before: u64,
    /// How far this look reached: the next one begins here.
    pub planned_until: DateTime<Utc>,
    /// The clock was set back by more than a day: the schedule starts afresh from now.
    pub clock_reset: bool,
}

/// Missed times that are listed one by one; a week of five-minute jobs need not be.
pub const MISSED_LISTED: usize = 100;
/// Up to here a run counts as on time.
const ON_TIME: Duration = Duration::seconds(60);
/// A clock set back further than this was wrong before, and is right now.
const CLOCK_WAS_WRONG: Duration = Duration::hours(25);

/// Looks at the occurrences of `cron` in `(planned until, now]`. `after_downtime` says that nobody was looking before.
pub fn plan(
    cron: &Cron,
    zone: Tz,
    rules: Rules,
    planned_until: DateTime<Utc>,
    now: DateTime<Utc>,
    after_downtime: bool,
) -> Plan {
    if now <= planned_until {
        let clock_reset = planned_until - now > CLOCK_WAS_WRONG;
        return Plan { planned_until: if clock_reset { now } else { planned_until }, clock_reset, ..Plan::default() };
    }
    let mut passed = std::collections::VecDeque::new();
    let mut missed_before = 0;
    for time in occurrences(cron, zone, planned_until).take_while(|time| *time <= now) {
        if passed.len() > MISSED_LISTED {
            passed.pop_front();
            missed_before += 1;
        }
        passed.push_back(time);
    }
    let due = passed.back().copied().and_then(|scheduled_for| {
        let late = now - scheduled_for;
        if late <= ON_TIME {
            return Some(Due { scheduled_for, lateness: Lateness::OnTime });
        }
        let wanted = !after_downtime || rules.catch_up == CatchUp::Once;
        (wanted && late <= rules.start_deadline).then_some(Due { scheduled_for, lateness: Lateness::Late })
    });
    if due.is_some() {
        passed.pop_back();
    } else if passed.len() > MISSED_LISTED {
        passed.pop_front();
        missed_before += 1;
    }
    Plan { due, missed: passed.into(), missed_before, planned_until: now, clock_reset: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn plan_at(expression: &str, catch_up: CatchUp, planned_until: &str, now: &str, down: bool) -> Plan {
        let rules = Rules { catch_up, start_deadline: Duration::hours(12) };
        plan(&expression.parse().unwrap(), Tz::UTC, rules, at(planned_until), at(now), down)
    }

    #[test]
    fn a_due_time_runs_once_however_often_it_is_asked() {
        let first = plan_at("0 3 * * *", CatchUp::None, "2026-11-21T02:59:59Z", "2026-11-21T03:00:00Z", false);
        assert_eq!(first.due.unwrap().scheduled_for, at("2026-11-21T03:00:00Z"));
        let again = plan_at("0 3 * * *", CatchUp::None, "2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z", false);
        assert_eq!(again.due, None);
    }

    #[test]
    fn a_clock_set_forward_an_hour_loses_nothing() {
        let plan = plan_at("30 2 * * *", CatchUp::None, "2026-11-21T02:10:00Z", "2026-11-21T03:10:00Z", false);
        assert_eq!(plan.due.unwrap(), Due { scheduled_for: at("2026-11-21T02:30:00Z"), lateness: Lateness::Late });
        assert!(plan.missed.is_empty());
    }

    #[test]
    fn a_clock_set_back_an_hour_doubles_nothing() {
        let plan = plan_at("30 2 * * *", CatchUp::Once, "2026-11-21T02:31:00Z", "2026-11-21T01:31:00Z", false);
        assert_eq!((plan.due, plan.clock_reset, plan.planned_until), (None, false, at("2026-11-21T02:31:00Z")));
        let second_pass = plan_at("30 2 * * *", CatchUp::Once, "2026-11-21T02:31:00Z", "2026-11-21T02:30:30Z", false);
        assert_eq!(second_pass.due, None);
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_silence_the_schedule() {
        let plan = plan_at("30 2 * * *", CatchUp::Once, "2031-01-01T00:00:00Z", "2026-11-21T01:31:00Z", false);
        assert!(plan.clock_reset);
        assert_eq!(plan.planned_until, at("2026-11-21T01:31:00Z"));
    }

    #[test]
    fn downtime_is_caught_up_once_or_recorded_as_missed() {
        let (from, until) = ("2026-11-20T22:00:00Z", "2026-11-21T04:10:00Z");
        let once = plan_at("0 * * * *", CatchUp::Once, from, until, true);
        assert_eq!(once.due.unwrap(), Due { scheduled_for: at("2026-11-21T04:00:00Z"), lateness: Lateness::Late });
        assert_eq!(once.missed.len(), 5);
        let none = plan_at("0 * * * *", CatchUp::None, from, until, true);
        assert_eq!((none.due, none.missed.len()), (None, 6));
    }

    #[test]
    fn too_late_is_missed_and_long_lists_are_cut() {
        let late = plan_at("0 3 * * *", CatchUp::Once, "2026-11-20T00:00:00Z", "2026-11-20T15:00:01Z", true);
        assert_eq!((late.due, late.missed.len()), (None, 1));
        let week = plan_at("*/5 * * * *", CatchUp::None, "2026-11-14T00:02:00Z", "2026-11-21T00:02:00Z", true);
        assert_eq!(week.missed.len() as u64 + week.missed_before, 7 * 288);
        assert!(week.missed.len() <= MISSED_LISTED);
    }

    proptest::proptest! {
        /// However the wake-ups fall, every time is either run or missed, exactly once.
        #[test]
        fn no_time_is_lost_or_doubled(steps in proptest::collection::vec(-5_000_i64..9_000, 1..60)) {
            let cron: Cron = "*/7 * * * *".parse().unwrap();
            let start = at("2026-10-24T20:00:00Z");
            let zone = chrono_tz::Europe::Berlin;
            let rules = Rules { catch_up: CatchUp::Once, start_deadline: Duration::hours(1) };
            let (mut planned_until, mut now, mut furthest, mut seen) = (start, start, start, Vec::new());
            for step in steps {
                now += Duration::seconds(step);
                furthest = furthest.max(now);
                let plan = plan(&cron, zone, rules, planned_until, now, false);
                proptest::prop_assume!(!plan.clock_reset);
                proptest::prop_assert_eq!(plan.missed_before, 0);
                seen.extend(plan.missed);
                seen.extend(plan.due.map(|due| due.scheduled_for));
                planned_until = plan.planned_until;
            }
            let expected: Vec<_> = occurrences(&cron, zone, start).take_while(|t| *t <= furthest).collect();
            proptest::prop_assert_eq!(seen, expected);
        }
    }
}
