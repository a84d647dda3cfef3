//! What a restore is asked to reach, as people and PostgreSQL write it.

use crate::{cli::RestoreTarget, commands::backup::label, exit::Exit, local::Context};
use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use pgbosun_backup::{Request, Target};

/// Transactions below are PostgreSQL's own (`FirstNormalTransactionId`).
const FIRST_XID: u32 = 3;

/// What was asked for.
pub(super) async fn request(context: &Context, target: &RestoreTarget) -> anyhow::Result<Request> {
    let refused = |error: String| Exit::usage(error);
    let chosen = match target {
        RestoreTarget { target_time: Some(time), .. } => {
            Some(Target::Time(time_of(time).map_err(|reason| Exit::usage(format!("--target-time {time}: {reason}")))?))
        }
        RestoreTarget { target_lsn: Some(lsn), .. } => Some(Target::Lsn(lsn.parse().map_err(refused)?)),
        RestoreTarget { target_xid: Some(xid), .. } => {
            Some(Target::Xid(xid_of(*xid).map_err(|reason| Exit::usage(format!("--target-xid {xid}: {reason}")))?))
        }
        RestoreTarget { target_name: Some(name), .. } => Some(Target::Name(name.clone())),
        RestoreTarget { immediate: true, .. } => Some(Target::Immediate),
        RestoreTarget { latest: true, .. } => Some(Target::Latest),
        _ => None,
    };
    let cluster = context.cluster(target.cluster.as_deref())?;
    let repositories = context.repositories(target.repository.as_deref())?;
    let backup = match &target.backup {
        Some(beginning) => Some(label(&repositories, beginning).await?),
        None => None,
    };
    Ok(Request {
        cluster,
        repositories,
        only: target.repository.clone(),
        backup,
        target: chosen,
        timeline: target.timeline,
        exclusive: target.target_exclusive,
    })
}

/// The number of a transaction in WAL: what `pg_current_xact_id` shows has its epoch above that.
fn xid_of(xid: u64) -> Result<u32, String> {
    // The low half, as PostgreSQL takes it for recovery_target_xid.
    match (xid & u64::from(u32::MAX)) as u32 {
        xid if xid < FIRST_XID => Err(format!("no transaction has this ID, the first is {FIRST_XID}")),
        xid => Ok(xid),
    }
}

/// A moment with its zone (C20): an offset, or the name of a zone.
fn time_of(text: &str) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "infinity" | "now" | "today" | "tomorrow" => {
            return Err("recovery cannot stop at this time; --latest goes as far as the archive does".into());
        }
        "-infinity" | "epoch" | "yesterday" => {
            return Err(
                "recovery cannot stop at this time; --immediate stops as soon as the backup is consistent".into()
            );
        }
        _ => {}
    }
    // chrono wants minutes in an offset, PostgreSQL writes +01.
    let bare_hours = text.len() > 3
        && text
            .get(text.len() - 3..)
            .is_some_and(|end| end.starts_with(['+', '-']) && end[1..].bytes().all(|byte| byte.is_ascii_digit()));
    let whole = if bare_hours && text.contains(':') { format!("{text}:00") } else { text.replace(" UTC", "Z") };
    let formats = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z", "%Y-%m-%dT%H:%M%#z"];
    let parsed = DateTime::parse_from_rfc3339(&whole.replacen(' ', "T", 1))
        .ok()
        .or_else(|| formats.iter().find_map(|format| DateTime::parse_from_str(&whole, format).ok()));
    match (parsed, text.rsplit_once(' ').and_then(|(local, zone)| Some((local, zone.parse::<Tz>().ok()?)))) {
        (Some(time), _) => Ok(time.with_timezone(&Utc)),
        (None, Some((local, zone))) => time_in(local, zone),
        (None, None) => Err(
            "write a time with its zone, such as \"2026-11-21 08:30:00+01\", \"2026-11-21 08:30:00 Europe/Berlin\" or \
                             2026-11-21T07:30:00Z"
                .into(),
        ),
    }
}

/// A time on the wall of a zone, where it is one moment.
fn time_in(local: &str, zone: Tz) -> Result<DateTime<Utc>, String> {
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let wall = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(local.trim(), format).ok());
    let wall = wall.ok_or_else(|| format!("\"{local}\" is not a time such as \"2026-11-21 08:30:00\""))?;
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(time) => Ok(time.with_timezone(&Utc)),
        LocalResult::Ambiguous(first, second) => Err(format!(
            "clocks in {zone} were set back then, so this time occurred twice: write {} or {}",
            first.format("\"%Y-%m-%d %H:%M:%S%:z\""),
            second.format("\"%Y-%m-%d %H:%M:%S%:z\"")
        )),
        LocalResult::None => Err(format!("clocks in {zone} were set forward then, so this time never occurred")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c20_times_need_a_zone() {
        let utc = |text: &str| time_of(text).unwrap().to_rfc3339();
        for text in [
            "2026-11-21 08:30:00+01",
            "2026-11-21 08:30:00+01:00",
            "2026-11-21 08:30:00+0100",
            "2026-11-21T07:30:00Z",
            "2026-11-21 07:30:00 UTC",
            "2026-11-21 07:30:00.000Z",
            "2026-11-21 08:30+01",
            "2026-11-21 08:30:00 Europe/Berlin",
            "2026-11-21T08:30 Europe/Berlin",
            "2026-11-21 13:15:00.000 Asia/Kathmandu",
        ] {
            assert_eq!(utc(text), "2026-11-21T07:30:00+00:00", "{text}");
        }
        for text in ["2026-11-21 08:30:00", "2026-11-21", "last week", "08:30+01", "2026-11-21 08:30:00 Nowhere/Else"] {
            assert!(time_of(text).unwrap_err().contains("zone"), "{text}");
        }
        let twice = time_of("2026-10-25 02:30:00 Europe/Berlin").unwrap_err();
        assert!(twice.contains("\"2026-10-25 02:30:00+02:00\" or \"2026-10-25 02:30:00+01:00\""), "{twice}");
        assert!(time_of("2026-03-29 02:30:00 Europe/Berlin").unwrap_err().contains("never occurred"));
        for (text, works) in [("infinity", "--latest"), ("NOW", "--latest"), ("-infinity", "--immediate")] {
            assert!(time_of(text).unwrap_err().contains(works), "{text}");
        }
    }

    #[test]
    fn transactions_may_come_with_their_epoch() {
        assert_eq!([xid_of(742), xid_of((7 << 32) + 742)], [Ok(742), Ok(742)]);
        assert!(xid_of(2).is_err() && xid_of(1 << 32).is_err());
    }
}
