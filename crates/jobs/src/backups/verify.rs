//! Verification of backups on a schedule.

use super::bulk_token;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Verified, verify, verify_archive};
use pgbosun_core::{
    config::RepositoryName,
    finding::{Finding, Severity},
    options,
    outcome::{BackupState, BackupStateRecord, Outcome, Record},
};
use pgbosun_repository::{BackupInfo, Repository};
use std::sync::Arc;

options! {
    /// Verifies backups without restoring them: objects, checksums, decompression, the manifest against the contents,
    /// the WAL.
    pub struct VerifyJob {
        /// The repositories; all of them by default.
        repositories: Vec<RepositoryName> = "[]";
        /// Whether the newest backup of each repository is verified, or every one with the whole WAL archive.
        scope: Scope = "\"latest\"";
    }
}

pgbosun_core::words! {
    /// Which backups.
    pub enum Scope {
        /// The newest.
        Latest = "latest",
        /// Every one.
        All = "all",
    }
}

pgbosun_core::word_settings! {
    Scope: "\"latest\" or \"all\"";
}

#[async_trait]
impl Job for VerifyJob {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cluster, _) = context.cluster()?;
        let mut outcome = Outcome::default();
        if context.dry_run {
            outcome.summary = format!("would verify {} backups of {cluster}", self.scope);
            return Ok(outcome);
        }
        let (mut good, mut all) = (0, 0);
        for repository in context.repositories(&self.repositories)? {
            let (mut backups, damaged) = repository.backups(Some(cluster)).await?;
            for error in damaged {
                all += 1;
                outcome.findings.push(finding(&repository.name, "backup.json", error.to_string()));
            }
            if self.scope == Scope::Latest {
                backups.drain(..backups.len().saturating_sub(1));
            }
            for info in backups {
                all += 1;
                let state = verify_and_record(context, &repository, &info, &mut outcome).await?;
                good += u32::from(state == BackupState::Verified);
            }
            if self.scope == Scope::All {
                let (cancel, _guard) = bulk_token(context);
                let (place, progress, cluster) =
                    (repository.clone(), Arc::clone(&context.progress), cluster.to_owned());
                let archive =
                    context.in_bulk(async move { verify_archive(&place, &cluster, &progress, &cancel).await }).await?;
                if !archive.passed() {
                    outcome.findings.push(archive_finding(&repository.name, faults(&archive)));
                }
            }
        }
        outcome.summary = format!("{good} of {all} backups are as they were written");
        Ok(outcome)
    }
}

/// Verifies one backup; what came of it goes into the outcome, and beside the backup (C8).
pub(super) async fn verify_and_record(
    context: &JobContext,
    repository: &Repository,
    info: &BackupInfo,
    outcome: &mut Outcome,
) -> Result<BackupState, JobError> {
    let (cancel, _guard) = bulk_token(context);
    let (place, backup, progress) = (repository.clone(), info.clone(), Arc::clone(&context.progress));
    let verified = context.in_bulk(async move { verify(&place, &backup, &progress, &cancel).await }).await?;
    if !verified.passed() {
        outcome.findings.push(finding(&repository.name, &info.label, faults(&verified)));
    }
    repository.note_verified(&info.place(), verified.passed()).await?;
    let state = if verified.passed() && !info.checksum_failures { BackupState::Verified } else { BackupState::Suspect };
    outcome.records.push(Record::BackupState(BackupStateRecord {
        label: info.label.clone(),
        cluster: info.cluster.clone(),
        repository: repository.name.clone(),
        state,
    }));
    Ok(state)
}

fn archive_finding(repository: &str, detail: String) -> Finding {
    Finding::new(Severity::Critical, format!("{repository}/wal"), format!("the WAL archive in {repository} is damaged"))
        .meaning("Recovery stops at the damaged segment, unless another repository has it.")
        .advice(
            "Take a new backup now, copy the segment from another repository where there is one, then look at the \
                 storage.",
        )
        .detail(detail)
}

pub(super) fn faults(verified: &Verified) -> String {
    let failed = verified.checks.iter().filter(|check| !check.passed);
    failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("\n")
}

pub(super) fn finding(repository: &str, label: &str, detail: String) -> Finding {
    Finding::new(
        Severity::Critical,
        format!("{repository}/{label}"),
        format!("backup {label} in {repository} is damaged"),
    )
    .meaning("It may not restore. Older backups may be whole.")
    .advice("Take a new backup now, then look at the storage. \"pgbosun backup verify --all\" shows which are whole.")
    .detail(detail)
}
