//! Blackout windows: wall-clock times in which a job does not start.
//!
//! `"22:00-06:00"`, `"Mon-Fri 08:00-18:00"`, `"Sat,Sun"`. A window that ends before it starts runs past midnight
//! and belongs to the day it starts on.

use chrono::{DateTime, Datelike, NaiveTime, TimeZone, Timelike, Weekday};
use std::{fmt, str::FromStr};

/// One weekly window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    text: String,
    days: [bool; 7],
    from: u32,
    until: u32,
}

const DAY: u32 = 24 * 3600;

impl Blackout {
    /// True where the wall clock of `at` lies in this window.
    pub fn covers<Z: TimeZone>(&self, at: &DateTime<Z>) -> bool {
        let second = at.time().num_seconds_from_midnight();
        let today = at.weekday().num_days_from_monday() as usize;
        let yesterday = (today + 6) % 7;
        if self.from < self.until {
            self.days[today] && (self.from..self.until).contains(&second)
        } else {
            (self.days[today] && second >= self.from) || (self.days[yesterday] && second < self.until)
        }
    }
}

impl FromStr for Blackout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut days, mut window) = ([true; 7], None);
        for part in text.split_whitespace() {
            if part.contains(':') { window = Some(parse_window(part)?) } else { days = parse_days(part)? }
        }
        if text.trim().is_empty() {
            return Err("empty: write \"Mon-Fri 08:00-18:00\"".into());
        }
        let (from, until) = window.unwrap_or((0, DAY));
        Ok(Self { text: text.trim().to_owned(), days, from, until })
    }
}

fn parse_window(text: &str) -> Result<(u32, u32), String> {
    let time = |t: &str| {
        if t == "24:00" {
            return Ok(DAY);
        }
        NaiveTime::parse_from_str(t, "%H:%M")
            .map(|t| t.num_seconds_from_midnight())
            .map_err(|_| format!("\"{t}\" is not a time of day: write 08:00"))
    };
    let (from, until) = text.split_once('-').ok_or_else(|| format!("\"{text}\" has no end: write 08:00-18:00"))?;
    let window = (time(from)?, time(until)?);
    if window.0 == window.1 { Err(format!("\"{text}\" is empty")) } else { Ok(window) }
}

fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let day = |t: &str| {
        t.parse::<Weekday>()
            .map(|d| d.num_days_from_monday() as usize)
            .map_err(|_| format!("\"{t}\" is not a day of the week: write Mon, Tue, … or Mon-Fri"))
    };
    let mut days = [false; 7];
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Ok(days)
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;

    fn covers(window: &str, at: &str) -> bool {
        window.parse::<Blackout>().unwrap().covers(&at.parse::<DateTime<Utc>>().unwrap())
    }

    #[test]
    fn windows_days_and_midnight() {
        // 2026-11-20 is a Friday.
        assert!(covers("Mon-Fri 08:00-18:00", "2026-11-20T08:00:00Z"));
        assert!(!covers("Mon-Fri 08:00-18:00", "2026-11-20T18:00:00Z"));
        assert!(!covers("Mon-Fri 08:00-18:00", "2026-11-21T09:00:00Z"));
        assert!(covers("Fri 22:00-06:00", "2026-11-21T05:59:59Z"));
        assert!(!covers("Fri 22:00-06:00", "2026-11-20T05:59:59Z"));
        assert!(covers("Sat,Sun", "2026-11-21T12:00:00Z"));
        assert!(covers("Sat-Mon", "2026-11-23T12:00:00Z"));
    }

    #[test]
    fn refusals_say_what_is_expected() {
        assert!("Mon-Fri 8-18".parse::<Blackout>().is_err());
        assert!("25:00-26:00".parse::<Blackout>().unwrap_err().contains("not a time of day"));
        assert!("Mun 08:00-09:00".parse::<Blackout>().unwrap_err().contains("not a day of the week"));
    }
}
