//! Cron expressions with the meaning of Vixie cron: five fields, or six with seconds first.
//!
//! When both day fields are restricted a day matches if either does (crontab(5)). Lists, ranges, steps, names
//! of months and days, `L` as the last day of the month, `5L` as the last Friday, and the `@` nicknames.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use std::{fmt, str::FromStr};

/// A parsed cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    last_day: bool,
    last_weekdays: u64,
    days_starred: bool,
    weekdays_starred: bool,
    interval: bool,
}

/// Why a cron expression was refused: a fragment that names the field and the offending part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 6] = [
    Field { name: "second", low: 0, high: 59, names: &[] },
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: MONTHS },
    Field { name: "day of week", low: 0, high: 7, names: WEEKDAYS },
];

/// The furthest a next occurrence is looked for: 29 February on one weekday recurs within 40 years.
const HORIZON_DAYS: u64 = 41 * 366;

impl Cron {
    /// True where the hour field begins with `*`: such a job follows elapsed time through a daylight-saving
    /// change (it runs in both passes of a repeated hour and not at all in a skipped one), as in Vixie cron.
    pub fn is_interval(&self) -> bool {
        self.interval
    }

    /// The first matching wall-clock time strictly after `after`, or `None` where there is none (30 February).
    pub fn next_naive(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let start = after.with_nanosecond(0)? + chrono::Duration::seconds(1);
        let mut day = start.date();
        if let Some(found) = self.day_matches(day).then(|| self.time_from(start.time())).flatten() {
            return Some(day.and_time(found));
        }
        let first = self.time_from(NaiveTime::MIN)?;
        for _ in 0..HORIZON_DAYS {
            day = day.checked_add_days(Days::new(1))?;
            if self.day_matches(day) {
                return Some(day.and_time(first));
            }
        }
        None
    }

    fn time_from(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (h0, m0, s0) = (from.hour(), from.minute(), from.second());
        let mut hour = next_bit(self.hours, h0)?;
        let mut minute = next_bit(self.minutes, if hour == h0 { m0 } else { 0 });
        let mut second = match minute {
            Some(m) if hour == h0 && m == m0 => next_bit(self.seconds, s0),
            _ => next_bit(self.seconds, 0),
        };
        if second.is_none() {
            minute = next_bit(self.minutes, m0 + 1);
            second = next_bit(self.seconds, 0);
        }
        if minute.is_none() {
            hour = next_bit(self.hours, h0 + 1)?;
            minute = next_bit(self.minutes, 0);
            second = next_bit(self.seconds, 0);
        }
        NaiveTime::from_hms_opt(hour, minute?, second?)
    }

    fn day_matches(&self, day: NaiveDate) -> bool {
        if self.months & (1 << day.month()) == 0 {
            return false;
        }
        let weekday = day.weekday().num_days_from_sunday();
        let tomorrow_is_other_month = day.succ_opt().is_none_or(|d| d.month() != day.month());
        let last_week = day.checked_add_days(Days::new(7)).is_none_or(|d| d.month() != day.month());
        let by_day = self.days & (1 << day.day()) != 0 || (self.last_day && tomorrow_is_other_month);
        let by_weekday = self.weekdays & (1 << weekday) != 0 || (last_week && self.last_weekdays & (1 << weekday) != 0);
        if self.days_starred || self.weekdays_starred { by_day && by_weekday } else { by_day || by_weekday }
    }
}

fn next_bit(mask: u64, from: u32) -> Option<u32> {
    let rest = mask.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let expanded = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            nickname if nickname.starts_with('@') => {
                return Err(CronError(format!(
                    "unknown nickname \"{nickname}\": one of @hourly, @daily, @weekly, @monthly, @yearly, @reboot"
                )));
            }
            other => other,
        };
        let mut parts: Vec<&str> = expanded.split_whitespace().collect();
        match parts.len() {
            5 => parts.insert(0, "0"),
            6 => {}
            n => {
                return Err(CronError(format!(
                    "{n} fields: five (minute hour day month weekday) or six (second first) are expected"
                )));
            }
        }
        let mut masks = [0_u64; 6];
        let mut cron = Self {
            text: text.to_owned(),
            seconds: 0,
            minutes: 0,
            hours: 0,
            days: 0,
            months: 0,
            weekdays: 0,
            last_day: false,
            last_weekdays: 0,
            days_starred: parts[3].starts_with('*') || parts[3] == "?",
            weekdays_starred: parts[5].starts_with('*') || parts[5] == "?",
            interval: parts[2].starts_with('*'),
        };
        for (index, part) in parts.iter().enumerate() {
            for item in part.split(',') {
                match (index, item.strip_suffix(['L', 'l'])) {
                    (3, Some("")) => cron.last_day = true,
                    (5, Some(day)) if !day.is_empty() => {
                        cron.last_weekdays |= 1 << (FIELDS[5].value(day)? % 7);
                    }
                    _ => masks[index] |= FIELDS[index].parse(item)?,
                }
            }
        }
        [cron.seconds, cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays] = masks;
        if cron.weekdays & (1 << 7) != 0 {
            cron.weekdays |= 1;
        }
        let probe = NaiveDate::from_ymd_opt(2023, 12, 31).map(|d| d.and_time(NaiveTime::MIN));
        if probe.and_then(|after| cron.next_naive(after)).is_none() {
            return Err(CronError(format!("\"{text}\" never occurs: no month has such a day")));
        }
        Ok(cron)
    }
}

impl Field {
    fn value(&self, text: &str) -> Result<u32, CronError> {
        if let Some(position) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.low + position as u32);
        }
        match text.parse() {
            Ok(value) if (self.low..=self.high).contains(&value) => Ok(value),
            _ => Err(CronError(format!(
                "\"{text}\" is not a valid {}: {} to {} are allowed",
                self.name, self.low, self.high
            ))),
        }
    }

    fn parse(&self, item: &str) -> Result<u64, CronError> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => match step.parse::<u32>() {
                Ok(step) if step > 0 => (range, step),
                _ => return Err(CronError(format!("\"{step}\" is not a valid step in the {} field", self.name))),
            },
            None => (item, 1),
        };
        let (low, high) = match range.split_once('-') {
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            None if range == "*" || range == "?" => (self.low, if self.high == 7 { 6 } else { self.high }),
            None if item.contains('/') => (self.value(range)?, self.high),
            None => (self.value(range)?, self.value(range)?),
        };
        if low > high {
            return Err(CronError(format!("\"{range}\" runs backwards in the {} field", self.name)));
        }
        // A step that is the whole field is its beginning, as was meant; a longer one cannot have been.
        let whole = (self.low, if self.high == 7 { 6 } else { self.high });
        if step > whole.1 - whole.0 + 1 {
            let two = if self.name == "minute" && range == "*" && step == 90 {
                "; every 90 minutes takes two schedules, \"0 */3 * * *\" and \"30 1-23/3 * * *\""
            } else {
                ""
            };
            return Err(CronError(format!(
                "\"{item}\" would run only at {} {low}: steps count within the field, {} to {}{two}",
                self.name, whole.0, whole.1
            )));
        }
        Ok((low..=high).step_by(step as usize).fold(0, |mask, bit| mask | (1 << bit)))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let after = NaiveDateTime::parse_from_str(after, "%Y-%m-%d %H:%M:%S").unwrap();
        let cron: Cron = expression.parse().unwrap();
        cron.next_naive(after).unwrap().format("%Y-%m-%d %H:%M:%S").to_string()
    }

    #[test]
    fn fields_lists_steps_and_names() {
        assert_eq!(next("*/5 * * * *", "2026-11-21 10:04:59"), "2026-11-21 10:05:00");
        assert_eq!(next("59 23 * * *", "2026-11-21 23:59:00"), "2026-11-22 23:59:00");
        assert_eq!(next("30 4 * * Sun", "2026-11-21 10:00:00"), "2026-11-22 04:30:00");
        assert_eq!(next("30 4 * * 7", "2026-11-21 10:00:00"), "2026-11-22 04:30:00");
        assert_eq!(next("0 9-17/4 * jan,mar *", "2026-11-21 10:00:00"), "2027-01-01 09:00:00");
        assert_eq!(next("15 30 6 * * *", "2026-11-21 06:30:15"), "2026-11-22 06:30:15");
        assert_eq!(next("0 0 29 2 *", "2026-11-21 00:00:00"), "2028-02-29 00:00:00");
    }

    #[test]
    fn either_day_field_is_enough_when_both_are_restricted() {
        // Friday the 27th comes before the 1st.
        assert_eq!(next("0 0 1 * fri", "2026-11-21 00:00:00"), "2026-11-27 00:00:00");
        assert_eq!(next("0 0 1 * fri", "2026-11-27 00:00:00"), "2026-12-01 00:00:00");
        // A starred day of month restricts nothing.
        assert_eq!(next("0 0 * * fri", "2026-11-27 00:00:00"), "2026-12-04 00:00:00");
    }

    #[test]
    fn last_day_and_last_weekday_of_the_month() {
        assert_eq!(next("0 2 L * *", "2027-02-01 00:00:00"), "2027-02-28 02:00:00");
        assert_eq!(next("0 2 * * 5L", "2026-11-21 00:00:00"), "2026-11-27 02:00:00");
        assert_eq!(next("0 2 * * 5L", "2026-11-27 02:00:00"), "2026-12-25 02:00:00");
    }

    #[test]
    fn refusals_name_the_field_and_the_part() {
        let message = |text: &str| text.parse::<Cron>().unwrap_err().to_string();
        assert_eq!(message("61 * * * *"), "\"61\" is not a valid minute: 0 to 59 are allowed");
        assert_eq!(
            message("* * *"),
            "3 fields: five (minute hour day month weekday) or six (second first) are expected"
        );
        assert!(message("@dayly").starts_with("unknown nickname"));
        assert!(message("0 0 30 2 *").contains("never occurs"));
        assert!(message("*/0 * * * *").contains("not a valid step"));
        assert!(message("30-10 * * * *").contains("backwards"));
        let ninety = message("*/90 * * * *");
        assert!(ninety.contains("would run only at minute 0") && ninety.contains("\"30 1-23/3 * * *\""), "{ninety}");
        let days = message("0 8-17/25 * * *");
        assert!(days.contains("would run only at hour 8: steps count within the field, 0 to 23"), "{days}");
        assert_eq!(next("0 2/24 * * *", "2026-11-21 10:04:59"), "2026-11-22 02:00:00");
        assert_eq!(next("*/60 * * * *", "2026-11-21 10:04:59"), "2026-11-21 11:00:00");
        assert_eq!(next("0 */24 * * *", "2026-11-21 10:04:59"), "2026-11-22 00:00:00");
    }
}
