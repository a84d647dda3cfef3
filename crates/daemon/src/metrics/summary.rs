//! The summary of backups as reference 004 has it: one JSON object a cluster.

use crate::{engine::Engine, error::Error};
use chrono::{DateTime, Datelike, Duration, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The time over which the success rate is taken.
const RATE: Duration = Duration::days(7);

/// When, and how backups stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// When this was put together.
    pub timestamp: DateTime<Utc>,
    /// How backups of all clusters stand: the oldest of the newest, the smallest rate, and so on.
    pub metrics: BackupSummary,
    /// The same of each cluster.
    pub clusters: BTreeMap<String, BackupSummary>,
}

/// How backups stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Age of the newest good backup, hours; none where there is no backup.
    pub last_backup_age_hours: Option<f64>,
    /// What it takes in its repository, megabytes.
    pub last_backup_size_mb: Option<f64>,
    /// How full the fullest watched file system is, percent; none before monitor.disk has looked.
    pub disk_usage_percent: Option<f64>,
    /// Runs of backup jobs of the last seven days that succeeded, percent.
    pub success_rate_percent: Option<f64>,
    /// Days that have a backup.
    pub daily_backup_count: usize,
    /// Weeks that have one.
    pub weekly_backup_count: usize,
    /// Months that have one.
    pub monthly_backup_count: usize,
}

/// How backups stand.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn summary(engine: &Engine) -> Result<Summary, Error> {
    let (config, now) = (engine.config(), engine.now());
    let rows = engine.journal.backups().await?;
    let rates = engine.journal.backup_rates(now - RATE).await?;
    let metrics = engine.latest_metrics.all(&config);
    let used = metrics.values().flat_map(|measured| &measured.metrics);
    let used = used.filter(|metric| metric.name == "host_filesystem_used_percent").map(|metric| metric.value);
    let disk_usage_percent = used.max_by(f64::total_cmp).map(rounded);
    let clusters = config.clusters.keys().map(|name| {
        let here: Vec<_> = rows.iter().filter(|row| row.cluster == *name && row.state.is_good()).collect();
        let newest = here.first();
        let distinct = |of: &dyn Fn(DateTime<Utc>) -> (i32, u32)| {
            here.iter().map(|row| of(row.finished_at)).collect::<BTreeSet<_>>().len()
        };
        let summary = BackupSummary {
            last_backup_age_hours: newest.map(|row| rounded((now - row.finished_at).num_seconds() as f64 / 3600.0)),
            last_backup_size_mb: newest.map(|row| rounded(row.stored_bytes as f64 / 1e6)),
            disk_usage_percent,
            success_rate_percent: rates.get(name).copied().map(rounded),
            daily_backup_count: distinct(&|at| (at.year(), at.ordinal())),
            weekly_backup_count: distinct(&|at| (at.iso_week().year(), at.iso_week().week())),
            monthly_backup_count: distinct(&|at| (at.year(), at.month())),
        };
        (name.clone(), summary)
    });
    let clusters: BTreeMap<_, _> = clusters.collect();
    Ok(Summary { timestamp: now, metrics: worst(clusters.values(), disk_usage_percent), clusters })
}

/// All clusters as one: nothing looks better than its worst part.
fn worst<'a>(all: impl Iterator<Item = &'a BackupSummary> + Clone, disk_usage_percent: Option<f64>) -> BackupSummary {
    let of = |field: fn(&BackupSummary) -> Option<f64>| all.clone().filter_map(field);
    let count = |field: fn(&BackupSummary) -> usize| all.clone().map(field).min().unwrap_or(0);
    // Where one cluster has no backup, there is no age that would be true of all.
    let aged = all.clone().all(|summary| summary.last_backup_age_hours.is_some());
    BackupSummary {
        last_backup_age_hours: of(|summary| summary.last_backup_age_hours).max_by(f64::total_cmp).filter(|_| aged),
        last_backup_size_mb: of(|summary| summary.last_backup_size_mb).reduce(|a, b| a + b),
        disk_usage_percent,
        success_rate_percent: of(|summary| summary.success_rate_percent).min_by(f64::total_cmp),
        daily_backup_count: count(|summary| summary.daily_backup_count),
        weekly_backup_count: count(|summary| summary.weekly_backup_count),
        monthly_backup_count: count(|summary| summary.monthly_backup_count),
    }
}

/// One digit after the point.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_looks_better_than_its_worst_part() {
        let one = BackupSummary {
            last_backup_age_hours: Some(2.0),
            last_backup_size_mb: Some(10.0),
            success_rate_percent: Some(100.0),
            daily_backup_count: 7,
            ..BackupSummary::default()
        };
        let other =
            BackupSummary { last_backup_age_hours: Some(30.0), success_rate_percent: Some(90.0), ..one.clone() };
        let none = BackupSummary::default();
        let both = worst([&one, &other].into_iter(), None);
        let (age, size) = (both.last_backup_age_hours, both.last_backup_size_mb);
        assert_eq!((age, size, both.success_rate_percent), (Some(30.0), Some(20.0), Some(90.0)));
        assert_eq!(worst([&one, &none].into_iter(), None).last_backup_age_hours, None);
        assert_eq!(worst([&one, &none].into_iter(), None).daily_backup_count, 0);
    }
}
