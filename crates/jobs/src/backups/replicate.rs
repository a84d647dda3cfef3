//! Keeping two repositories in step (reference: offsite copies).

use super::{bulk_token, physical::record};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Catalogue, copy_backup, copy_wal};
use pgbosun_core::{
    config::RepositoryName,
    human, options,
    outcome::{Outcome, Record},
};
use pgbosun_repository::BackupInfo;

options! {
    /// Copies the backups and WAL of the cluster that one repository has and another lacks. What retention removed from
    /// the target is not copied again: a backup older than the oldest one there is left out.
    pub struct Replicate {
        /// The repository to copy from.
        from: RepositoryName;
        /// The repository to copy to.
        to: RepositoryName;
        /// Whether to copy WAL too.
        wal: bool = "true";
    }
}

#[async_trait]
impl Job for Replicate {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, _) = context.cluster()?;
        let one = |name: &RepositoryName| {
            let found = context.repositories(std::slice::from_ref(name))?.into_iter().next();
            found.ok_or_else(|| JobError::lasting(format!("no repository {}", name.0)))
        };
        let (from, to) = (one(&self.from)?, one(&self.to)?);
        let (there, here) = (Catalogue::read(&to, Some(cluster)).await?, Catalogue::read(&from, Some(cluster)).await?);
        // C33: older by LSN, within each system.
        let oldest = |info: &BackupInfo| there.infos().find(|known| known.system_id == info.system_id);
        // C27: damage is not spread.
        let good = here.entries().iter().filter(|entry| entry.health().is_good()).map(|entry| entry.info.clone());
        let (lacking, older): (Vec<_>, Vec<_>) = good
            .filter(|info| there.find(&info.place()).is_none())
            .partition(|info| oldest(info).is_none_or(|oldest| info.position() > oldest.position()));
        let left_out = match older.len() {
            0 => String::new(),
            count => format!("; left out {} older than everything in {}", human::count(count, "backup"), to.name),
        };
        let mut outcome = Outcome::default();
        if context.dry_run {
            let labels: Vec<_> = lacking.iter().map(|info| info.label.as_str()).collect();
            outcome.summary = match labels.len() {
                0 => format!("would copy no backup to {}{left_out}", to.name),
                count => {
                    let backups = human::count(count, "backup");
                    format!("would copy {backups} to {}: {}{left_out}", to.name, labels.join(", "))
                }
            };
            return Ok(outcome);
        }
        let (mut labels, mut bytes, mut wal, mut refused) = (Vec::new(), 0, 0, Vec::new());
        for info in lacking {
            let (cancel, _guard) = bulk_token(context);
            let (source, target, instance) = (from.clone(), to.clone(), context.journal.instance());
            let label = info.label.clone();
            context.progress.step(format!("copying {label} to {}", to.name), 0);
            let copied =
                context.in_bulk(async move { copy_backup(&source, &target, &info, instance, &cancel).await }).await;
            let copied = match copied {
                Ok(copied) => copied,
                Err(error) if context.cancel.is_cancelled() || error.is_transient() => return Err(error),
                // One that cannot be copied keeps no other from it.
                Err(error) => {
                    refused.push(format!("{label}: {}", human::chain(&error)));
                    continue;
                }
            };
            bytes += copied.bytes;
            for label in &copied.backups {
                // C28: it is there; a repository that does not answer at this moment does not undo that.
                if let Ok(info) = to.find(Some(cluster), label).await {
                    context.ledger.add(Record::Backup(record(&to.name, &info)));
                }
            }
            labels.extend(copied.backups);
        }
        if self.wal {
            for system_id in from.system_ids(cluster).await? {
                let (cancel, _guard) = bulk_token(context);
                let (source, target, cluster) = (from.clone(), to.clone(), cluster.to_owned());
                let copied = context
                    .in_bulk(Box::pin(async move { copy_wal(&source, &target, &cluster, &system_id, &cancel).await }))
                    .await?;
                wal += copied.wal;
                bytes += copied.bytes;
            }
        }
        outcome.summary = match (labels.len(), wal) {
            (0, 0) => format!("{} already has everything in {}", to.name, from.name),
            (backups, wal) => {
                let (backups, wal) = (human::count(backups, "backup"), human::count(wal, "WAL file"));
                format!("copied {backups} and {wal} to {} ({})", to.name, human::size(bytes))
            }
        };
        outcome.summary.push_str(&left_out);
        if !refused.is_empty() {
            let words = human::count(refused.len(), "backup");
            outcome.failed = Some(format!("{words} could not be copied to {}: {}", to.name, refused.join("; ")));
        }
        Ok(outcome)
    }
}
