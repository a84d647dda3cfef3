//! What keeps the backups: repositories, and the file systems of this machine.

use crate::{monitors::FileSystem, reports::activity::Activity};
use futures::future::join_all;
use pgbosun_core::{
    config::{Config, Repository as Options},
    finding::Severity,
    human,
    report::{ReportSection, ReportTable, VerdictLine},
};
use pgbosun_history::BackupRow;
use pgbosun_repository::Repository;
use std::{collections::BTreeSet, sync::Arc};

/// What a repository holds.
pub(super) struct Holding {
    /// Its name.
    name: String,
    /// The backups, by cluster and label, or why it does not say.
    backups: Result<BTreeSet<(String, String)>, String>,
    /// What in it cannot be read, in words.
    damaged: Vec<String>,
}

impl Holding {
    /// Asks every repository, all at once.
    pub async fn of_all(config: &Config) -> Vec<Self> {
        let ask = async |name: &String, options: &Options| {
            let repository = Repository::open(config, name, options)?;
            let (listed, damaged) = repository.shown(None).await?;
            let backups: BTreeSet<_> = listed.into_iter().map(|info| (info.cluster, info.label)).collect();
            Ok::<_, pgbosun_repository::Error>((backups, damaged))
        };
        let asked = config.repositories.iter().map(async |(name, options)| {
            let told = |error: pgbosun_repository::Error| human::chain(&error);
            let (backups, damaged) = match ask(name, options).await {
                // A share that is not there holds nothing, and says so.
                Ok((backups, mut damaged)) if backups.is_empty() && !damaged.is_empty() => {
                    (Err(told(damaged.swap_remove(0))), Vec::new())
                }
                Ok((backups, damaged)) => (Ok(backups), damaged.into_iter().map(told).collect()),
                Err(error) => (Err(told(error)), Vec::new()),
            };
            Self { name: name.clone(), backups, damaged }
        });
        join_all(asked).await
    }

    /// Whether it says that it does not have a backup of which history knows.
    pub fn lacks(&self, backup: &BackupRow) -> bool {
        let key = (backup.cluster.clone(), backup.label.clone());
        self.name == backup.repository && self.backups.as_ref().is_ok_and(|backups| !backups.contains(&key))
    }
}

/// Repositories that do not answer, and backups that are gone from those that do.
pub(super) fn lines(holdings: &[Holding], lost: &[BackupRow]) -> Vec<VerdictLine> {
    let mut lines = Vec::new();
    for holding in holdings {
        if let Err(reason) = &holding.backups {
            lines.push(VerdictLine::new(
                Severity::Warning,
                format!("Repository {} is unavailable: {reason}.", holding.name),
            ));
        }
        if let Some(first) = holding.damaged.first() {
            let count = human::count(holding.damaged.len(), "backup");
            lines.push(VerdictLine::new(
                Severity::Warning,
                format!("Repository {}: {count} cannot be read: {first}.", holding.name),
            ));
        }
        let own: Vec<_> = lost.iter().filter(|backup| backup.repository == holding.name).collect();
        if let Some(newest) = own.first() {
            let count = human::count(own.len(), "backup");
            let text = format!(
                "Missing from repository {}: {count} recorded in history, the newest {}. Is it the right place, and is it \
                 mounted?",
                holding.name, newest.label
            );
            lines.push(VerdictLine::new(Severity::Critical, text));
        }
    }
    lines
}

/// The section.
pub(super) async fn section(config: &Arc<Config>, activity: &Activity, holdings: &[Holding]) -> ReportSection {
    let mut section = ReportSection::new("Storage");
    let mut table = ReportTable::new("Repositories", &["repository", "type", "location", "state", "backups", "stored"]);
    for (name, options) in &config.repositories {
        let own = activity.backups.iter().filter(|backup| backup.repository == *name);
        let (count, stored) =
            own.fold((0_usize, 0), |(count, stored), backup| (count + 1, stored + backup.stored_bytes.unsigned_abs()));
        let away = holdings.iter().any(|holding| holding.name == *name && holding.backups.is_err());
        let state = if away { "unavailable" } else { "available" };
        let cells = [
            name.clone(),
            options.common.r#type.0.clone(),
            options.store.shown(),
            state.to_owned(),
            count.to_string(),
            human::size(stored),
        ];
        table.row(cells, None);
    }
    if !table.rows.is_empty() {
        section.tables.push(table);
    }
    let mut table = ReportTable::new("File systems of this machine", &["file system", "used", "free"]);
    for system in FileSystem::of_installation(config).await {
        let percent = system.used_percent();
        let cells = [system.path.display().to_string(), format!("{percent:.0} %"), human::size(system.free)];
        table.row(cells, Some(percent / 100.0));
    }
    section.tables.push(table);
    section
}
