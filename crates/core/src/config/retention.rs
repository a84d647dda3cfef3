//! `retention = { … }`: how long backups and WAL are kept.

use super::{KnownNames, RawValue, Refusal, Setting};

/// How long backups and WAL are kept. A backup stays while any of them keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Backups younger than so many days.
    pub days: Option<u32>,
    /// While fewer than so many newer ones are verified.
    pub count: Option<u32>,
    /// The newest of each of the last so many days that have one.
    pub daily: Option<u32>,
    /// The newest of each of the last so many weeks that have one.
    pub weekly: Option<u32>,
    /// The newest of each of the last so many months that have one.
    pub monthly: Option<u32>,
    /// Recovery to any moment of so many days: WAL, and the backup before it. Without it WAL stays from the oldest
    /// retained backup on.
    pub wal_days: Option<u32>,
}

impl Setting for Retention {
    const EXPECTS: &'static str = "a table such as { days = 90 }, { count = 7, wal-days = 14 } or \
                                   { daily = 7, weekly = 4, monthly = 12 }";

    fn read(value: &RawValue, _: &KnownNames) -> Result<Self, Refusal> {
        let mut retention = Self::default();
        for (key, value) in value.as_dict().ok_or_else(|| Refusal::expected(Self::EXPECTS))? {
            let number =
                value.to_i128().or_else(|| value.to_u128()?.try_into().ok()).and_then(|n| u32::try_from(n).ok());
            let number = number.filter(|number| *number > 0).ok_or_else(|| Refusal::expected(Self::EXPECTS))?;
            let slot = match key.as_str() {
                "days" => &mut retention.days,
                "count" => &mut retention.count,
                "daily" => &mut retention.daily,
                "weekly" => &mut retention.weekly,
                "monthly" => &mut retention.monthly,
                "wal-days" => &mut retention.wal_days,
                _ => return Err(Refusal::expected(Self::EXPECTS)),
            };
            *slot = Some(number);
        }
        let Self { days, count, daily, weekly, monthly, wal_days: _ } = retention;
        match [days, count, daily, weekly, monthly].iter().any(Option::is_some) {
            true => Ok(retention),
            false => Err(Refusal::expected(Self::EXPECTS)),
        }
    }
}
