//! When a message that could not be sent is tried again.

use chrono::{DateTime, Duration, Utc};

/// After so long nobody wants the message any more.
const LIFETIME: Duration = Duration::days(3);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::minutes(10);

/// The time of the next try after `attempts` failed ones: 15 s, doubling, up to ten minutes; none after three days.
pub fn next_attempt(created_at: DateTime<Utc>, attempts: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let pause = Duration::seconds(15 << attempts.min(10)).min(LONGEST);
    (now - created_at < LIFETIME).then(|| now + pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_minutes_and_end_after_three_days() {
        let start: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().unwrap();
        assert_eq!(next_attempt(start, 0, start), Some(start + Duration::seconds(15)));
        assert_eq!(next_attempt(start, 3, start), Some(start + Duration::minutes(2)));
        assert_eq!(next_attempt(start, 40, start), Some(start + Duration::minutes(10)));
        assert_eq!(next_attempt(start, 40, start + Duration::days(3)), None);
    }
}
