//! Which backups may go. A pure function of what there is.
//!
//! Invariants: the newest good backup never goes (C8); a backup counts by when it ended, never by its name.

use chrono::{DateTime, Duration, Utc};
use pgbosun_repository::BackupInfo;

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Backups younger than so many days.
    pub days: Option<u32>,
    /// The newest so many.
    pub count: Option<u32>,
}

/// The backups that no rule keeps, each with the reason why it goes; oldest first as given.
pub fn expired(backups: &[BackupInfo], retention: Retention, now: DateTime<Utc>) -> Vec<(&BackupInfo, String)> {
    if retention == Retention::default() {
        return Vec::new();
    }
    let good: Vec<_> = backups.iter().filter(|info| !info.checksum_failures).collect();
    let newest_first = good.iter().rev();
    let kept: Vec<&str> =
        newest_first.take(retention.count.unwrap_or(0).max(1) as usize).map(|i| i.label.as_str()).collect();
    let Some(oldest) = now.checked_sub_signed(Duration::days(retention.days.unwrap_or(0).into())) else {
        return Vec::new();
    };
    backups
        .iter()
        .filter(|info| !kept.contains(&info.label.as_str()) && info.finished_at < oldest && !good.is_empty())
        .map(|info| {
            let age = (now - info.finished_at).num_days();
            (info, format!("{age} days old, and {} newer good backups are kept", kept.len()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn backup(label: &str, days_ago: i64, suspect: bool) -> BackupInfo {
        let at = now() - Duration::days(days_ago);
        BackupInfo {
            format: 1,
            label: label.into(),
            cluster: "main".into(),
            system_id: "1".into(),
            kind: "full".into(),
            server: String::new(),
            superuser: String::new(),
            server_version: "15".into(),
            program_version: String::new(),
            started_at: at,
            finished_at: at,
            start_lsn: pgbosun_core::lsn::Lsn(0),
            stop_lsn: pgbosun_core::lsn::Lsn(0),
            start_timeline: 1,
            timeline: 1,
            wal_segment_size: 16 << 20,
            databases: BTreeMap::new(),
            settings: BTreeMap::new(),
            tablespaces: Vec::new(),
            checksum_failures: suspect,
            bytes: 0,
            stored_bytes: 0,
            compression: "zstd".into(),
            objects: Vec::new(),
            checksum: String::new(),
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    fn gone(backups: &[BackupInfo], days: Option<u32>, count: Option<u32>) -> Vec<String> {
        expired(backups, Retention { days, count }, now()).into_iter().map(|(info, _)| info.label.clone()).collect()
    }

    #[test]
    fn days_and_count_keep_together() {
        let all = [backup("a", 100, false), backup("b", 91, false), backup("c", 89, false), backup("d", 1, false)];
        assert_eq!(gone(&all, Some(90), None), ["a", "b"]);
        assert_eq!(gone(&all, Some(90), Some(3)), ["a"]);
        assert_eq!(gone(&all, None, Some(2)), ["a", "b"]);
        assert!(gone(&all, None, None).is_empty());
    }

    #[test]
    fn c8_the_last_good_backup_stays_however_old_and_suspect_ones_do_not_count() {
        let all = [backup("good", 400, false), backup("suspect", 1, true)];
        assert!(gone(&all, Some(90), None).is_empty());
        let all = [backup("old", 500, false), backup("good", 400, false), backup("suspect", 1, true)];
        assert_eq!(gone(&all, Some(90), Some(1)), ["old"]);
        assert!(gone(&[backup("suspect", 400, true)], Some(90), None).is_empty());
    }
}
