//! Verification of backups on a schedule.

use super::bulk_token;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Verified, verify};
use pgbosun_core::{
    config::RepositoryName,
    finding::{Finding, Severity},
    options,
    outcome::{BackupState, BackupStateRecord, Outcome, Record},
};
use std::sync::Arc;

options! {
    /// Verifies backups without restoring them: objects, checksums, decompression, the manifest against the contents,
    /// the WAL.
    pub struct VerifyJob {
        /// The repositories; all of them by default.
        repositories: Vec<RepositoryName> = "[]";
        /// Whether the newest backup of each repository is verified or every one.
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
        for repository in context.repositories(&self.repositories) {
            let (mut backups, damaged) = repository.backups(Some(cluster)).await?;
            for error in damaged {
                all += 1;
                outcome.findings.push(finding(&repository.name, "backup.json", error.to_string()));
            }
            if self.scope == Scope::Latest {
                backups.drain(..backups.len().saturating_sub(1));
            }
            for info in backups {
                let (cancel, _guard) = bulk_token(context);
                let (repository, progress) = (repository.clone(), Arc::clone(&context.progress));
                let (name, label) = (repository.name.clone(), info.label.clone());
                let suspect = info.checksum_failures;
                let verified =
                    context.in_bulk(async move { verify(&repository, &info, &progress, &cancel).await }).await?;
                all += 1;
                let state = if verified.passed() && !suspect { BackupState::Verified } else { BackupState::Suspect };
                if verified.passed() {
                    good += 1;
                } else {
                    outcome.findings.push(finding(&name, &label, faults(&verified)));
                }
                let cluster = cluster.to_owned();
                outcome.records.push(Record::BackupState(BackupStateRecord {
                    label,
                    cluster,
                    repository: name,
                    state,
                }));
            }
        }
        outcome.summary = format!("{good} of {all} backups are as they were written");
        Ok(outcome)
    }
}

pub(super) fn faults(verified: &Verified) -> String {
    let failed = verified.checks.iter().filter(|check| !check.passed);
    failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("\n")
}

pub(super) fn finding(repository: &str, label: &str, detail: String) -> Finding {
    Finding {
        object: format!("{repository}/{label}"),
        severity: Severity::Critical,
        summary: format!("backup {label} in {repository} is damaged"),
        meaning: "It may not restore. Older backups may be whole.".into(),
        advice:
            "Take a new backup now, then look at the storage. \"pgbosun backup verify --all\" shows which are whole."
                .into(),
        detail,
    }
}
