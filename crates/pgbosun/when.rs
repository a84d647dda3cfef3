//! Times as people write them: on the wall clock of the daemon's zone, with a zone of their own, or so long ago.

use crate::exit::Exit;
use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// A moment such as `2026-11-22 08:00`.
///
/// # Errors
/// Where it is none.
pub fn moment(text: &str, zone: Tz) -> anyhow::Result<DateTime<Utc>> {
    if let Ok(at) = text.parse::<DateTime<Utc>>() {
        return Ok(at);
    }
    let formats = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
    let day = || Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN));
    let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).or_else(day);
    let at = local.and_then(|local| zone.from_local_datetime(&local).latest());
    at.map(|at| at.to_utc()).ok_or_else(|| {
        Exit::usage(format!(
            "\"{text}\" is not a time: expected something like \"2026-11-22 08:00\" or \"2026-11-22T08:00:00Z\""
        ))
    })
}

/// A moment in the past, or how long ago: `2h`.
///
/// # Errors
/// Where it is neither.
pub fn since(text: &str, zone: Tz, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    match text.parse::<humantime::Duration>() {
        Ok(ago) => Ok(now - Duration::from_std(*ago)?),
        Err(_) => moment(text, zone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_moments_days_and_durations() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let since = |text: &str| since(text, chrono_tz::Europe::Berlin, now).map(|at| at.to_rfc3339());
        assert_eq!(since("2h").unwrap(), "2026-11-22T10:00:00+00:00");
        assert_eq!(since("2026-11-22").unwrap(), "2026-11-21T23:00:00+00:00");
        assert_eq!(since("2026-11-22 08:00").unwrap(), "2026-11-22T07:00:00+00:00");
        assert_eq!(since("2026-11-22T08:00:00Z").unwrap(), "2026-11-22T08:00:00+00:00");
        assert!(since("last week").unwrap_err().to_string().contains("is not a time"));
    }
}
