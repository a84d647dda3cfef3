//! A physical backup of the running cluster (reference: daily full backup).

use super::bulk_token;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Physical, Retention, expired, verify};
use pgbosun_core::{
    clock,
    config::{Known, RawValue, Refusal, RepositoryName, Setting},
    finding::{Finding, Severity},
    human, options,
    outcome::{BackupRecord, BackupState, BackupStateRecord, Outcome, Record},
};
use pgbosun_repository::{BackupInfo, Repository};
use std::sync::Arc;

options! {
    /// Takes a full physical backup of the running cluster with the WAL it needs, tablespaces included, read once and
    /// written to all its repositories. Afterwards the backups that its retention does not keep are removed.
    pub struct BackupPhysical {
        /// Where to.
        repositories: Vec<RepositoryName>;
        /// Whether the server makes its checkpoint at once (`fast`) or without a burst of writes (`spread`).
        checkpoint: Checkpoint = "\"fast\"";
        /// Read every new backup once from end to end, and compare all that was written down about it.
        verify: bool = "true";
        /// What is kept of the cluster's backups in these repositories: `{ days = 90 }`, `{ count = 7 }`, or both, then
        /// a backup stays while either keeps it. Without it nothing is ever removed. The last good one never is.
        retention: Option<Keep>;
    }
}

pgbosun_core::words! {
    /// How the server makes the checkpoint a backup begins with.
    pub enum Checkpoint {
        /// At once.
        Fast = "fast",
        /// Spread over `checkpoint_completion_target`.
        Spread = "spread",
    }
}

pgbosun_core::word_settings! {
    Checkpoint: "\"fast\" or \"spread\"";
}

/// Retention as an option.
#[derive(Clone, Copy, Debug)]
pub struct Keep(Retention);

impl Setting for Keep {
    const EXPECTS: &'static str = "a table such as { days = 90 } or { days = 30, count = 7 }";

    fn read(value: &RawValue, _: &Known) -> Result<Self, Refusal> {
        let mut retention = Retention::default();
        for (key, value) in value.as_dict().ok_or_else(|| Refusal::expected(Self::EXPECTS))? {
            let number =
                value.to_i128().or_else(|| value.to_u128()?.try_into().ok()).and_then(|n| u32::try_from(n).ok());
            match (key.as_str(), number.filter(|number| *number > 0)) {
                ("days", Some(days)) => retention.days = Some(days),
                ("count", Some(count)) => retention.count = Some(count),
                _ => return Err(Refusal::expected(Self::EXPECTS)),
            }
        }
        if retention == Retention::default() { Err(Refusal::expected(Self::EXPECTS)) } else { Ok(Self(retention)) }
    }
}

#[async_trait]
impl Job for BackupPhysical {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, server) = context.cluster()?;
        let repositories = context.repositories(&self.repositories);
        if context.dry_run {
            let names: Vec<_> = repositories.iter().map(|repository| repository.name.as_str()).collect();
            let summary = format!("would back up {cluster} ({}) to {}", server.conninfo, names.join(", "));
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let (cancel, _guard) = bulk_token(context);
        let physical = Physical {
            cluster: cluster.to_owned(),
            server: server.clone(),
            repositories: repositories.clone(),
            instance: context.journal.instance(),
            fast_checkpoint: self.checkpoint == Checkpoint::Fast,
            progress: Arc::clone(&context.progress),
            cancel,
        };
        let taken = context.in_bulk(async move { physical.take().await }).await?;
        let mut outcome = Outcome { summary: summary(&taken.stored), ..Outcome::default() };
        if !taken.removed_leftovers.is_empty() {
            outcome.summary.push_str(&format!("; removed leftovers {}", taken.removed_leftovers.join(", ")));
        }
        for (repository, info) in &taken.stored {
            outcome.findings.extend(suspect(repository, info));
            outcome.records.push(Record::Backup(record(repository, info)));
        }
        for (repository, (name, info)) in repositories.iter().zip(taken.stored) {
            let good = if self.verify {
                let state = verify_new(context, repository, &info, &mut outcome).await?;
                let (label, repository, cluster) = (info.label, name, cluster.to_owned());
                outcome.records.push(Record::BackupState(BackupStateRecord { label, cluster, repository, state }));
                state == BackupState::Verified
            } else {
                !info.checksum_failures
            };
            // C8: nothing goes for a backup that is not known to be good.
            if let (Some(Keep(retention)), true) = (self.retention, good)
                && let Err(error) = self.expire(repository, cluster, retention, &mut outcome).await
            {
                outcome.findings.push(not_expired(&repository.name, &error));
            }
        }
        Ok(outcome)
    }
}

/// Reads the new backup once from end to end.
async fn verify_new(
    context: &JobContext,
    repository: &Repository,
    info: &BackupInfo,
    outcome: &mut Outcome,
) -> Result<BackupState, JobError> {
    let (cancel, _guard) = bulk_token(context);
    let (place, backup, progress) = (repository.clone(), info.clone(), Arc::clone(&context.progress));
    let verified = context.in_bulk(async move { verify(&place, &backup, &progress, &cancel).await }).await?;
    if !verified.passed() {
        outcome.findings.push(super::verify::finding(&repository.name, &info.label, super::verify::faults(&verified)));
    }
    Ok(if verified.passed() && !info.checksum_failures { BackupState::Verified } else { BackupState::Suspect })
}

/// The backup is there; only the tidying up after it is not done.
fn not_expired(repository: &str, error: &JobError) -> Finding {
    Finding {
        object: format!("retention in {repository}"),
        severity: Severity::Warning,
        summary: format!("old backups in {repository} were not removed"),
        meaning: "The new backup is whole, but the repository grows.".into(),
        advice: "Mend the cause named below; the next backup tries again.".into(),
        detail: format!("error: {error}"),
    }
}

impl BackupPhysical {
    async fn expire(
        &self,
        repository: &Repository,
        cluster: &str,
        retention: Retention,
        outcome: &mut Outcome,
    ) -> Result<(), JobError> {
        let (backups, _) = repository.backups(Some(cluster)).await?;
        for (info, reason) in expired(&backups, retention, clock::now()) {
            repository.remove(&info.place()).await?;
            tracing::info!(repository = repository.name, "backup {} removed by retention: {reason}", info.label);
            outcome.summary.push_str(&format!("; removed {} from {}: {reason}", info.label, repository.name));
            outcome.records.push(Record::BackupState(BackupStateRecord {
                label: info.label.clone(),
                cluster: cluster.to_owned(),
                repository: repository.name.clone(),
                state: BackupState::Removed,
            }));
        }
        Ok(())
    }
}

fn summary(stored: &[(String, BackupInfo)]) -> String {
    let Some((_, info)) = stored.first() else { return "nothing to do".into() };
    let names: Vec<_> = stored.iter().map(|(name, _)| name.as_str()).collect();
    let ratio = info.bytes as f64 / info.stored_bytes.max(1) as f64;
    format!(
        "{} to {}: {} stored as {} ({ratio:.1} : 1) in {}",
        info.label,
        names.join(", "),
        human::size(info.bytes),
        human::size(info.stored_bytes),
        human::span(info.finished_at - info.started_at)
    )
}

/// C15: kept, alerted, not retried, and not a good backup.
fn suspect(repository: &str, info: &BackupInfo) -> Option<Finding> {
    info.checksum_failures.then(|| Finding {
        object: format!("page checksums in {repository}"),
        severity: Severity::Critical,
        summary: format!("backup {} found damaged pages in the cluster", info.label),
        meaning: "Data on the server's disk is not what PostgreSQL wrote. The backup holds the same damage.".into(),
        advice: "Look for \"checksum verification failed\" in the server's log, check the hardware, and keep the last \
                 good backup safe."
            .into(),
        detail: format!("backup: {} (suspect)", info.label),
    })
}

fn record(repository: &str, info: &BackupInfo) -> BackupRecord {
    BackupRecord {
        label: info.label.clone(),
        cluster: info.cluster.clone(),
        repository: repository.to_owned(),
        kind: info.kind.clone(),
        state: if info.checksum_failures { BackupState::Suspect } else { BackupState::Complete },
        system_id: info.system_id.clone(),
        started_at: info.started_at,
        finished_at: info.finished_at,
        start_lsn: info.start_lsn,
        stop_lsn: info.stop_lsn,
        timeline: info.timeline,
        bytes: info.bytes,
        stored_bytes: info.stored_bytes,
    }
}
