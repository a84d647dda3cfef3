//! Verification of backups on a schedule.

use super::bulk_token;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Catalogue, Health, Verified, verify, verify_archive};
use pgbosun_core::{
    config::RepositoryName,
    detail::Detail,
    finding::{Finding, Severity},
    human, options,
    outcome::{BackupState, BackupStateRecord, Outcome, Record},
};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Repository};
use std::sync::Arc;

options! {
    /// Verifies backups without restoring them: objects, checksums, decompression, the manifest against the contents, and
    /// the WAL.
    pub struct VerifyJob {
        /// The repositories; all of them by default.
        repositories: Vec<RepositoryName> = "[]";
        /// What to verify: the newest backup of each repository (`latest`), or every backup and the whole WAL archive
        /// (`all`).
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
            // One repository that does not answer keeps no other from being verified.
            let catalogue = match Catalogue::read(&repository, Some(cluster)).await {
                Ok(catalogue) => catalogue,
                Err(error) => {
                    outcome.findings.push(not_done(&repository.name, &repository.name, &human::chain(&error)));
                    continue;
                }
            };
            for error in &catalogue.unreadable {
                all += 1;
                outcome.findings.push(unreadable(&repository.name, error));
            }
            let backups: Vec<_> = catalogue.infos().cloned().collect();
            let skipped = if self.scope == Scope::Latest { backups.len().saturating_sub(1) } else { 0 };
            for info in backups.into_iter().skip(skipped) {
                all += 1;
                good += u32::from(verify_as_step(context, &repository, &info, &mut outcome).await.is_verified());
                if context.cancel.is_cancelled() {
                    return Err(pgbosun_backup::Error::Cancelled.into());
                }
            }
            if self.scope == Scope::All {
                let (cancel, _guard) = bulk_token(context);
                let (place, progress, cluster) =
                    (repository.clone(), Arc::clone(&context.progress), cluster.to_owned());
                let archive =
                    context.in_bulk(async move { verify_archive(&place, &cluster, &progress, &cancel).await });
                match archive.await {
                    Ok(archive) if archive.passed() => {}
                    Ok(archive) => outcome.findings.push(archive_finding(&repository.name, faults(&archive))),
                    Err(error) => {
                        let object = format!("{}/wal", repository.name);
                        outcome.findings.push(not_done(&object, &repository.name, &human::chain(&error)));
                    }
                }
            }
        }
        outcome.summary = format!("{good} of {all} backups verified");
        Ok(outcome)
    }
}

/// Verifies one backup as a step of a run; what came of it goes into the outcome, and beside the backup (C8). That it could not be
/// verified is a finding, not the end of the run (C28). Returns how good the backup is now, with what it builds on.
pub(super) async fn verify_as_step(
    context: &JobContext,
    repository: &Repository,
    info: &BackupInfo,
    outcome: &mut Outcome,
) -> Health {
    let (cancel, _guard) = bulk_token(context);
    let (place, backup, progress) = (repository.clone(), info.clone(), Arc::clone(&context.progress));
    let verified = context.in_bulk(async move { verify(&place, &backup, &progress, &cancel).await }).await;
    let noted = match verified {
        Ok(verified) => {
            if !verified.passed() {
                outcome.findings.push(finding(&repository.name, &info.label, faults(&verified)));
            }
            note_verification(repository, info, verified.passed()).await.map_err(JobError::from)
        }
        Err(error) => Err(error),
    };
    match noted {
        Ok((health, states)) => {
            outcome.records.extend(states.into_iter().map(Record::BackupState));
            health
        }
        // The run says itself that it was told to stop.
        Err(_) if context.cancel.is_cancelled() => Health::Unverified,
        Err(error) => {
            let object = format!("{}/{}", repository.name, info.label);
            outcome.findings.push(not_done(&object, &info.label, &human::chain(&error)));
            Health::Unverified
        }
    }
}

/// Writes the result of a verification beside the backup (C8). Returns how good it is now, and what became of it and of the backups
/// that build on it (C27), for history.
///
/// # Errors
/// What the repository answered.
pub async fn note_verification(
    repository: &Repository,
    info: &BackupInfo,
    passed: bool,
) -> Result<(Health, Vec<BackupStateRecord>), pgbosun_repository::Error> {
    repository.note_verified(&info.place(), passed).await?;
    let catalogue = Catalogue::read(repository, Some(&info.cluster)).await?;
    let Some(entry) = catalogue.find(&info.place()) else {
        return Err(pgbosun_repository::Error::NoBackup(info.label.clone()));
    };
    let changed = std::iter::once(entry).chain(catalogue.dependents(&entry.info));
    let states = changed.map(|entry| BackupStateRecord {
        label: entry.info.label.clone(),
        cluster: entry.info.cluster.clone(),
        repository: repository.name.clone(),
        state: match entry.health() {
            Health::Verified => BackupState::Verified,
            Health::Unverified | Health::Orphaned { .. } => BackupState::Complete,
            Health::Suspect { .. } | Health::Damaged { .. } | Health::Broken { .. } => BackupState::Suspect,
        },
    });
    Ok((entry.health().clone(), states.collect()))
}

/// That something could not be verified: nothing is known against it.
fn not_done(object: &str, what: &str, error: &str) -> Finding {
    Finding::new(Severity::Warning, object, format!("{what} could not be verified"))
        .meaning("Whether it can be restored is unknown. Retention does not count it until it is verified.")
        .advice(
            "Fix the cause named below, then run \"pgbosun backup verify\". Without a key for encrypted backups, set identity-file.",
        )
        .detail(Detail::error(error))
}

fn archive_finding(repository: &str, detail: impl Into<Detail>) -> Finding {
    Finding::new(Severity::Critical, format!("{repository}/wal"), format!("the WAL archive in {repository} is damaged"))
        .meaning("Recovery stops at the damaged segment, unless another repository has it.")
        .advice(
            "Take a new backup now, copy the segment from another repository if one has it, then check the storage.",
        )
        .detail(detail)
}

pub(super) fn faults(verified: &Verified) -> Detail {
    let failed = verified.checks.iter().filter(|check| !check.passed);
    failed.fold(Detail::new(), |detail, check| detail.fact(check.name, &check.detail))
}

/// A backup whose catalogue is damaged, or that nobody trusted has signed (C42).
fn unreadable(repository: &str, error: &RepositoryError) -> Finding {
    let RepositoryError::Untrusted { object, .. } = error else {
        return finding(repository, "backup.json", error.to_string());
    };
    let summary = format!("{object} in {repository} is not trusted");
    untrusted(format!("{repository}/{object}"), summary).detail(Detail::error(error))
}

/// C42: somebody else may have put it there, and retention stands still meanwhile.
pub(crate) fn untrusted(object: String, summary: String) -> Finding {
    Finding::new(Severity::Critical, object, summary)
        .meaning(
            "Somebody forged or changed a backup, or it was written before signing was set up or by a host whose key is not among \
             trusted-keys. It does not count as a backup, and retention removes nothing there until this is settled.",
        )
        .advice(
            "If it is yours, \"pgbosun backup sign\" verifies and signs it. Otherwise find out who can write to the \
             repository, and remove the backup's directory by hand.",
        )
}

pub(super) fn finding(repository: &str, label: &str, detail: impl Into<Detail>) -> Finding {
    Finding::new(
        Severity::Critical,
        format!("{repository}/{label}"),
        format!("backup {label} in {repository} is damaged"),
    )
    .meaning("It may not be restorable. Older backups may be intact.")
    .advice("Take a new backup now, then check the storage. \"pgbosun backup verify --all\" shows which are intact.")
    .detail(detail)
}
