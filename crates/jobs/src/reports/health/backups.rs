//! Backups and restore tests.

use super::clusters::Standing;
use crate::{
    backups::RestoreTestJob,
    reports::activity::{Activity, seconds, told},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    config::Config,
    finding::Severity,
    human,
    outcome::BackupState,
    report::{KeyFigure, ReportSection, ReportTable},
};
use pgbosun_history::{BackupRow, RestoreTestRow};
use std::{collections::BTreeMap, time::Duration};

/// Backups of the window shown.
const SHOWN: usize = 30;

/// Which backups there are, which moments they reach, and which are new.
pub(super) fn section(standings: &[Standing], activity: &Activity, now: DateTime<Utc>, zone: Tz) -> ReportSection {
    let mut section = ReportSection::new("Backups");
    let concerned =
        |standing: &&Standing| activity.is_backed_up(&standing.name) || activity.newest_good(&standing.name).is_some();
    for standing in standings.iter().filter(concerned) {
        let (severity, value) = match &standing.reach {
            Ok(Some(reach)) if reach.to <= reach.from => {
                let value = format!("{}, the end of its newest backup: there is no WAL after it", told(reach.to, zone));
                (Severity::Ok, value)
            }
            Ok(Some(reach)) => {
                (Severity::Ok, format!("any moment from {} to {}", told(reach.from, zone), told(reach.to, zone)))
            }
            Ok(None) => (Severity::Critical, "nothing: there is no good backup".into()),
            Err(reason) => (Severity::Warning, format!("unknown: {reason}")),
        };
        let label = format!("{} can be restored to", standing.name);
        section.figures.push(KeyFigure::new(&label, value).as_bad_as(severity));
    }
    let mut places: BTreeMap<(&str, &str), Vec<&BackupRow>> = BTreeMap::new();
    for backup in &activity.backups {
        places.entry((&backup.cluster, &backup.repository)).or_default().push(backup);
    }
    let head = ["cluster", "repository", "newest", "size", "stored", "good", "verified", "oldest", "total stored"];
    let mut table = ReportTable::new("By repository", &head);
    let stored = |backups: &[&BackupRow]| backups.iter().map(|backup| bytes(backup.stored_bytes)).sum::<u64>();
    let most = places.values().map(|backups| stored(backups)).max().unwrap_or_default().max(1);
    for ((cluster, repository), backups) in &places {
        let (newest, oldest) = (backups[0], backups[backups.len() - 1]);
        let of = |state: fn(BackupState) -> bool| backups.iter().filter(|backup| state(backup.state)).count();
        let cells = [
            (*cluster).to_owned(),
            (*repository).to_owned(),
            format!("{} ago", human::span(now - newest.finished_at)),
            human::size(bytes(newest.bytes)),
            human::size(bytes(newest.stored_bytes)),
            format!("{} of {}", of(BackupState::is_good), backups.len()),
            of(|state| state == BackupState::Verified).to_string(),
            told(oldest.finished_at, zone),
            human::size(stored(backups)),
        ];
        table.row(cells, Some(stored(backups) as f64 / most as f64));
    }
    if table.rows.is_empty() {
        section.note = Some("No backup is recorded in history.".into());
    } else {
        section.tables.push(table);
    }
    let head = ["cluster", "repository", "backup", "kind", "state", "finished", "took", "size", "stored"];
    let new: Vec<_> = activity.backups.iter().filter(|backup| activity.is_new(backup)).collect();
    let title = format!("Finished in this window: {}", new.len());
    let mut table = ReportTable::new(&title, &head);
    for backup in new.into_iter().take(SHOWN) {
        let cells = [
            backup.cluster.clone(),
            backup.repository.clone(),
            backup.label.clone(),
            backup.kind.clone(),
            backup.state.to_string(),
            told(backup.finished_at, zone),
            human::duration((backup.finished_at - backup.started_at).to_std().unwrap_or_default()),
            human::size(bytes(backup.bytes)),
            human::size(bytes(backup.stored_bytes)),
        ];
        table.row(cells, None);
    }
    if !table.rows.is_empty() {
        section.tables.push(table);
    }
    section
}

fn bytes(bytes: i64) -> u64 {
    bytes.unsigned_abs()
}

/// The restore tests of the window, or the last one of each cluster where there was none, beside their objectives.
pub(super) fn tests(
    config: &Config,
    standings: &[Standing],
    activity: &Activity,
    tests: &[RestoreTestRow],
    zone: Tz,
) -> ReportSection {
    let mut section = ReportSection::new("Restore tests");
    let head = ["cluster", "backup", "when", "result", "took (RTO)", "objective", "age of state (RPO)", "objective"];
    let mut table = ReportTable::new("", &head);
    let objective = |limit: Option<Duration>| limit.map_or_else(|| "none".to_owned(), human::duration);
    for standing in standings {
        let (rto, rpo) = RestoreTestJob::objectives(config, &standing.name);
        let mut own: Vec<_> = tests.iter().filter(|test| test.cluster == standing.name).collect();
        if own.is_empty() {
            own.extend(activity.test_of(&standing.name));
        }
        if own.is_empty() && activity.is_backed_up(&standing.name) {
            let note = format!(
                "{} has never had a restore test: run \"pgbosun restore-test\", and configure a job of kind restore-test.",
                standing.name
            );
            section.note = Some(section.note.map_or(note.clone(), |before: String| format!("{before} {note}")));
        }
        for test in own.into_iter().take(SHOWN) {
            let cells = [
                test.cluster.clone(),
                test.label.clone(),
                told(test.started_at, zone),
                if test.passed { "passed" } else { "failed" }.to_owned(),
                seconds(test.total_seconds),
                objective(rto),
                seconds(test.recovery_point_age_seconds),
                objective(rpo),
            ];
            table.row(cells, None);
        }
    }
    if !table.rows.is_empty() {
        section.tables.push(table);
    }
    section
}
