use super::*;
use chrono::TimeDelta;
use proptest::prelude::*;

fn at(days: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(days)
}

fn backup(label: &str, days_ago: i64) -> Candidate {
    let started_at = at(-days_ago);
    let position = Lsn(((1000 - days_ago).max(1) as u64) << 24);
    Candidate {
        label: label.into(),
        system_id: "1".into(),
        parent: None,
        job: Some("daily".into()),
        timeline: 1,
        started_at,
        finished_at: started_at + TimeDelta::minutes(5),
        start_lsn: position,
        stop_lsn: Lsn(position.0 + 1000),
        good: true,
        verified: true,
        kept: None,
    }
}

fn rules(rule: Retention) -> Rules {
    [("daily".to_owned(), rule)].into()
}

fn staying(backups: &[Candidate], rule: Retention) -> Vec<String> {
    let decided = decide(backups, &rules(rule), Tz::UTC, at(0));
    backups.iter().zip(decided).filter(|(_, reason)| reason.is_some()).map(|(backup, _)| backup.label.clone()).collect()
}

#[test]
fn days_counts_and_tiers() {
    let backups: Vec<_> = (0..100).map(|day| backup(&format!("{day}"), day)).collect();
    assert_eq!(staying(&backups, Retention { days: Some(7), ..Retention::default() }).len(), 8);
    assert_eq!(staying(&backups, Retention { count: Some(3), ..Retention::default() }), ["0", "1", "2"]);
    let tiers = Retention { daily: Some(7), weekly: Some(4), monthly: Some(3), ..Retention::default() };
    let stay = staying(&backups, tiers);
    assert!((10..=14).contains(&stay.len()), "{stay:?}");
    assert_eq!(stay[..7], ["0", "1", "2", "3", "4", "5", "6"]);
}

#[test]
fn c8_only_verified_ones_count_and_the_last_good_one_stays() {
    let mut backups: Vec<_> = (0..6).map(|day| backup(&format!("{day}"), day)).collect();
    backups[0].verified = false;
    backups[1].verified = false;
    backups[2].good = false;
    backups[2].verified = false;
    let stay = staying(&backups, Retention { count: Some(2), ..Retention::default() });
    assert_eq!(stay, ["0", "1", "2", "3", "4"], "two verified ones, and whatever is newer than them");
    let old: Vec<_> = (100..103).map(|day| backup(&format!("{day}"), day)).collect();
    assert_eq!(staying(&old, Retention { days: Some(7), ..Retention::default() }), ["100"]);
}

#[test]
fn c11_a_chain_goes_as_a_whole() {
    let mut backups: Vec<_> = (0..10).map(|day| backup(&format!("{day}"), day)).collect();
    for (child, parent) in [(2, "3"), (3, "4"), (4, "9")] {
        backups[child].parent = Some(parent.into());
    }
    let stay = staying(&backups, Retention { count: Some(3), ..Retention::default() });
    assert_eq!(stay, ["0", "1", "2", "3", "4", "9"]);
}

#[test]
fn other_jobs_and_what_is_kept_by_hand_stay() {
    let mut backups: Vec<_> = (0..4).map(|day| backup(&format!("{day}"), 50 + day)).collect();
    backups[1].job = Some("weekly".into());
    backups[2].kept = Some("for the audit".into());
    backups[3].job = None;
    let decided = decide(&backups, &rules(Retention { days: Some(1), ..Retention::default() }), Tz::UTC, at(0));
    assert!(decided[1].as_ref().unwrap().contains("no retention for job weekly"));
    assert!(decided[2].as_ref().unwrap().contains("for the audit"));
    assert!(decided[3].is_some());
}

#[test]
fn c7_wal_stays_from_the_backup_before_the_window_on_and_within_every_retained_backup() {
    let backups: Vec<_> = [1, 5, 12, 40].map(|day| backup(&format!("{day}"), day)).into();
    let rule = Retention { days: Some(90), wal_days: Some(7), ..Retention::default() };
    let retained: Vec<&Candidate> = backups.iter().collect();
    let needed = needed(&retained, &rules(rule), at(0));
    let segment = |lsn: Lsn| Segment::holding(lsn, 1, 16 << 20);
    // The one of 12 days ago serves the beginning of the window.
    assert!(needed.keeps(segment(backups[2].start_lsn), 16 << 20));
    assert!(!needed.keeps(segment(Lsn(backups[2].start_lsn.0 - (32 << 20))), 16 << 20));
    assert!(needed.keeps(segment(backups[3].stop_lsn), 16 << 20));
    assert!(!needed.keeps(segment(Lsn(backups[3].stop_lsn.0 + (32 << 20))), 16 << 20));
}

fn position(known: &Candidate) -> (u32, Lsn, Lsn) {
    (known.timeline, known.start_lsn, known.stop_lsn)
}

/// Whether all dates are believed as they are.
fn plain(backups: &[Candidate]) -> bool {
    let (dates, _) = ordered(&backups.iter().collect::<Vec<_>>(), at(0));
    dates.iter().zip(backups).all(|(dates, known)| dates.started_at == known.started_at)
}

/// Whether the dates of all others agree with the order of positions, as seen from this one.
fn in_order(all: &[Candidate], known: &Candidate) -> bool {
    all.iter().all(|other| (position(other) < position(known)) == (other.started_at < known.started_at))
}

fn ahead(label: &str, days: i64, lsn: u64) -> Candidate {
    let mut known = backup(label, -days);
    (known.start_lsn, known.stop_lsn) = (Lsn(lsn), Lsn(lsn + 1000));
    known
}

#[test]
fn c33_one_that_is_dated_in_the_future_neither_counts_as_the_newest_nor_stays_for_years() {
    let position = |days_ago: u64| ((1000 - days_ago) << 24) + 5000;
    let mut backups = vec![backup("3", 3), ahead("wrong", 365, position(3)), backup("2", 2), backup("1", 1)];
    let count = Retention { count: Some(1), ..Retention::default() };
    assert_eq!(staying(&backups, count), ["1"]);
    // As old as the next one that is dated right.
    let days = |days| Retention { days: Some(days), ..Retention::default() };
    assert_eq!(staying(&backups, days(2)), ["wrong", "2", "1"]);
    backups.truncate(2);
    assert_eq!(staying(&backups, days(1)), ["wrong"], "the last: as young as can be");
}

#[test]
fn c33_a_clock_that_jumped_ahead_makes_nothing_older() {
    let staying = |count: i64| {
        let long_ago = |day: i64| ahead(&format!("{day}"), -3650 - day, ((1000 - day) as u64) << 24);
        let mut backups: Vec<_> = (0..count).map(long_ago).collect();
        backups.push(ahead("now", 0, 1001 << 24));
        staying(&backups, Retention { days: Some(7), ..Retention::default() }).len()
    };
    assert_eq!(staying(6), 7, "none");
    assert_eq!(staying(30), 8, "what would go without the jump goes all the same");
}

#[test]
fn c33_one_that_is_dated_back_is_no_older_than_the_one_before_it() {
    let mut backups: Vec<_> = (0..4).map(|day| backup(&format!("{day}"), day)).collect();
    backups[1].started_at = at(-3000);
    backups[1].finished_at = at(-3000);
    assert_eq!(staying(&backups, Retention { days: Some(2), ..Retention::default() }), ["0", "1", "2"]);
}

#[derive(Clone, Debug)]
struct Story {
    backups: Vec<Candidate>,
    rule: Retention,
}

fn story() -> impl Strategy<Value = Story> {
    let one = (0_i64..120, 0_u32..4, any::<bool>(), any::<bool>(), 0_u8..12, 0_u64..200);
    let rule = (
        proptest::option::of(1_u32..60),
        proptest::option::of(1_u32..6),
        proptest::option::of(1_u32..10),
        proptest::option::of(1_u32..6),
        proptest::option::of(1_u32..40),
    );
    (proptest::collection::vec(one, 1..25), rule).prop_map(|(raw, (days, count, daily, weekly, wal_days))| {
        let mut backups: Vec<Candidate> = Vec::new();
        for (index, (days_ago, kind, good, verified, kept, lsn)) in raw.into_iter().enumerate() {
            let mut known = backup(&format!("b{index}"), days_ago);
            // Clocks need not follow positions (C33), and positions begin again after a recovery to an earlier point.
            known.start_lsn = Lsn(lsn << 24);
            known.stop_lsn = Lsn((lsn << 24) + 5_000_000);
            known.timeline = 1 + (lsn % 2) as u32;
            known.good = good;
            known.verified = good && verified;
            known.kept = (kept == 0).then(|| "kept".into());
            known.parent = backups
                .iter()
                .filter(|parent| kind == 0 && position(parent) < position(&known))
                .max_by_key(|parent| position(parent))
                .map(|parent| parent.label.clone());
            backups.push(known);
        }
        Story { backups, rule: Retention { days, count, daily, weekly, monthly: None, wal_days } }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn c7_c8_c11_over_random_histories(story in story()) {
        let rules = rules(story.rule);
        let decided = decide(&story.backups, &rules, Tz::UTC, at(0));
        let retained: Vec<&Candidate> =
            story.backups.iter().zip(&decided).filter(|(_, reason)| reason.is_some()).map(|(known, _)| known).collect();
        let stays = |label: &String| retained.iter().any(|known| known.label == *label);
        // C11
        for known in &retained {
            prop_assert!(known.parent.as_ref().is_none_or(stays));
        }
        // C8
        for wanted in [true, false] {
            let good = story.backups.iter().filter(|known| known.good && (known.verified || !wanted));
            if let Some(newest) = good.max_by_key(|known| position(known)) {
                let same = story.backups.iter().filter(|k| position(k) == position(newest) && k.good);
                prop_assert!(same.into_iter().any(|known| stays(&known.label)));
            }
        }
        for known in story.backups.iter().filter(|known| known.kept.is_some()) {
            prop_assert!(stays(&known.label));
        }
        // C7
        let needed = needed(&retained, &rules, at(0));
        let size = 16 << 20;
        for known in &retained {
            let mut at = known.start_lsn.segment_start(size);
            while at <= known.stop_lsn {
                for timeline in 1..3 {
                    prop_assert!(needed.keeps(Segment::holding(at, timeline, size), size));
                }
                at = Lsn(at.0 + size);
            }
        }
        // Any moment of the window can be recovered to, where a backup before it was there: all from that one on stays.
        let window = at(-i64::from(story.rule.wal_days.unwrap_or(0)));
        if story.rule.wal_days.is_some() {
            let before = story.backups.iter().filter(|known| known.good && known.finished_at < window);
            // Dates in doubt are believed to be later than they say, so more than the anchor may stay, and never less.
            if let Some(anchor) = before.filter(|known| in_order(&story.backups, known)).max_by_key(|known| position(known)) {
                let before = |k: &&Candidate| k.good && position(k) >= position(anchor);
                prop_assert!(story.backups.iter().filter(before).any(|known| stays(&known.label)));
            }
            for known in retained.iter().filter(|known| known.finished_at >= window) {
                prop_assert!(needed.keeps(Segment::holding(Lsn(known.stop_lsn.0 + 300 * size), 1, size), size));
            }
        }
        // Nothing more goes at the same moment, unless what is gone was what made a date doubtful.
        let again: Vec<Candidate> = retained.iter().map(|known| (*known).clone()).collect();
        if plain(&story.backups) && plain(&again) {
            let twice = decide(&again, &rules, Tz::UTC, at(0));
            prop_assert!(twice.iter().all(Option::is_some), "{:?}", again);
        }
    }
}
