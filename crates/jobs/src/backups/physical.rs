//! A physical backup of the running cluster (reference: daily full backup).

use super::{bulk_token, expiry, verify};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::{Health, Incremental, Physical, PhysicalBackup, WalSource, copy_backup};
use pgbosun_core::{
    config::{Rate, RepositoryName, Retention},
    detail::Detail,
    finding::{Finding, Severity},
    human, options,
    outcome::{BackupRecord, BackupState, Outcome, Record},
};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Repository};
use std::{sync::Arc, time::Duration};

options! {
    /// Takes a physical backup of the running cluster, tablespaces included, with the WAL it needs. The data is read once
    /// and written to all of the job's repositories. Afterwards, backups that retention does not keep are removed.
    pub struct BackupPhysical {
        /// The repositories to write to.
        repositories: Vec<RepositoryName>;
        /// Whether the server makes its checkpoint at once (`fast`) or spreads it to avoid a burst of writes (`spread`).
        checkpoint: Checkpoint = "\"fast\"";
        /// How the data is read: from the data directory while the server is in backup mode (`files`), by the server over
        /// a replication connection (`stream`), or `auto`: files if the data directory is on this machine and the role
        /// may call `pg_backup_start`, `pg_backup_stop` and `pg_read_file`, otherwise stream. Files are faster because
        /// several are read at once; incremental backups always use the connection. Files with `wal = "archive"` need
        /// neither a replication connection nor the right to open one.
        source: Source = "\"auto\"";
        /// How many files are read, checked and compressed at the same time when the data directory is read. Each takes
        /// about 25 MiB of memory.
        workers: u8 = "2";
        /// The most data to read from the server per second; no limit by default.
        rate_limit: Option<Rate>;
        /// Back up only what changed since the newest backup, if the server can (PostgreSQL 17, `summarize_wal = on`);
        /// otherwise take a full backup, and say why in the result.
        incremental: bool = "false";
        /// The most incremental backups in a chain on top of one full backup.
        chain_limit: u32 = "6";
        /// Where the WAL that makes the backup consistent comes from: streamed alongside the data (`stream`), or from the
        /// WAL archive, once it has arrived there (`archive`).
        wal: WalFrom = "\"stream\"";
        /// How long to wait for that WAL to arrive in the archive.
        archive_timeout: Duration = "\"15m\"";
        /// Take the backup from a standby, if the cluster has one that keeps up.
        prefer_standby: bool = "false";
        /// Read every new backup once from end to end, and compare it with everything recorded about it. Only verified
        /// backups count for retention; without this, a job of kind `verify` has to do it.
        verify: bool = "true";
        /// Which of this job's backups are kept: `days`, `count`, `daily`, `weekly`, `monthly`; a backup is kept as long
        /// as one of these keeps it. `wal-days` is the window of point-in-time recovery; without it, WAL is kept from the
        /// oldest backup on. Without retention nothing is ever removed. The last good backup is never removed.
        retention: Option<Retention>;
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

pgbosun_core::words! {
    /// Where a backup's WAL comes from.
    pub enum WalFrom {
        /// Streamed beside the data.
        Stream = "stream",
        /// Awaited in the archive.
        Archive = "archive",
    }
}

pgbosun_core::words! {
    /// How the data of a backup is read.
    pub enum Source {
        /// From the data directory where that is possible.
        Auto = "auto",
        /// Over a replication connection.
        Stream = "stream",
        /// From the data directory.
        Files = "files",
    }
}

pgbosun_core::word_settings! {
    Source: "\"auto\", \"files\" or \"stream\"";
    Checkpoint: "\"fast\" or \"spread\"";
    WalFrom: "\"stream\" or \"archive\"";
}

#[async_trait]
impl Job for BackupPhysical {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (cancel, _guard) = bulk_token(context);
        let physical = self.physical(context, cancel)?;
        let repositories = physical.repositories.clone();
        if context.dry_run {
            return self.dry_run(context, physical).await;
        }
        let taken = context.in_bulk(async move { physical.take().await }).await?;
        let mut outcome = Outcome { summary: summary(&taken), ..Outcome::default() };
        let mut stored = taken.stored.clone();
        // C28: what is published is recorded at once. Whatever fails from here on is a result of its own, and never a reason to
        // take the backup again: nothing below returns an error.
        let note = |stored: &[(Repository, BackupInfo)]| {
            for (repository, info) in stored {
                context.ledger.add(Record::Backup(record(&repository.name, info)));
            }
        };
        note(&stored);
        let taken_at_once = stored.len();
        self.catch_up(context, &taken, &mut stored, &mut outcome).await;
        note(&stored[taken_at_once..]);
        outcome.findings.extend(stored.iter().filter_map(|(repository, info)| suspect(&repository.name, info)));
        // C27: what was found to be damaged on the way is said, and noted before anything is counted.
        if let Some((repository, lost)) = taken.why_full.as_ref().and_then(|why| why.lost.as_ref()) {
            verify::verify_as_step(context, repository, lost, &mut outcome).await;
        }
        for (repository, info) in &stored {
            let good = match self.verify {
                true => {
                    let health = verify::verify_as_step(context, repository, info, &mut outcome).await;
                    outcome.findings.extend(orphaned(&repository.name, &health));
                    health.is_verified()
                }
                false => !info.checksum_failures,
            };
            // C8: nothing goes for a backup that is not known to be good.
            if good && repositories.iter().any(|known| known.name == repository.name) {
                let spared = [info.label.clone()];
                expiry::expire(context, repository, true, &spared, &mut outcome).await;
            }
        }
        Ok(outcome)
    }
}

impl BackupPhysical {
    fn physical(
        &self,
        context: &JobContext,
        cancel: tokio_util::sync::CancellationToken,
    ) -> Result<Physical, JobError> {
        let (cluster, server) = context.cluster()?;
        let repositories = context.repositories(&self.repositories)?;
        // C14: it would wait in vain for what never comes there.
        let has_wal = |name: &str| context.config.wal_repositories(cluster).any(|(known, _)| known == name);
        if let (WalFrom::Archive, Some(without)) =
            (self.wal, repositories.iter().find(|repository| !has_wal(&repository.name)))
        {
            return Err(JobError::lasting(format!(
                "wal = \"archive\" cannot be used with repository {0}, which gets no WAL of {cluster}: add {0} to the \
                 wal-repositories of the cluster, or let the backup stream its WAL",
                without.name
            )));
        }
        Ok(Physical {
            cluster: cluster.to_owned(),
            server: server.clone(),
            repositories,
            instance: context.journal.instance(),
            job: Some(context.job.clone()),
            fast_checkpoint: self.checkpoint == Checkpoint::Fast,
            max_rate: self.rate_limit.map(Rate::bytes),
            incremental: self.incremental.then_some(Incremental { chain_limit: self.chain_limit }),
            prefer_standby: self.prefer_standby,
            source: match self.source {
                Source::Auto => pgbosun_backup::Source::Auto,
                Source::Stream => pgbosun_backup::Source::Stream,
                Source::Files => pgbosun_backup::Source::Files,
            },
            workers: self.workers.into(),
            wal: match self.wal {
                WalFrom::Stream => WalSource::Stream,
                WalFrom::Archive => WalSource::Archive(self.archive_timeout),
            },
            progress: Arc::clone(&context.progress),
            cancel,
        })
    }

    async fn dry_run(&self, context: &JobContext, physical: Physical) -> Result<Outcome, JobError> {
        let names: Vec<_> = physical.repositories.iter().map(|repository| repository.name.clone()).collect();
        let estimate = context.in_bulk(async move { physical.estimate().await }).await?;
        let kind = match &estimate.parent {
            None => "a full backup".to_owned(),
            Some(Ok(parent)) => format!("an incremental backup based on {parent}"),
            Some(Err(reason)) => format!("a full backup ({reason})"),
        };
        let summary = format!(
            "would take {kind} of the {} {} from {} to {}: {} of databases, about {} stored",
            estimate.role,
            estimate.server,
            estimate.reads,
            names.join(", "),
            human::size(estimate.bytes),
            human::size(estimate.stored_bytes)
        );
        Ok(Outcome { summary, ..Outcome::default() })
    }

    /// Repositories that were dropped from the pass get the backup from one that has it.
    async fn catch_up(
        &self,
        context: &JobContext,
        taken: &PhysicalBackup,
        stored: &mut Vec<(Repository, BackupInfo)>,
        outcome: &mut Outcome,
    ) {
        let Some((source, info)) = taken.stored.first().cloned() else { return };
        let (mut lacking, mut missing) = (Vec::new(), Vec::new());
        for (repository, reason) in &taken.dropped {
            let (cancel, _guard) = bulk_token(context);
            let (from, to, backup, instance) =
                (source.clone(), repository.clone(), info.clone(), context.journal.instance());
            // C43: among a copy's backups nobody could tell it from them.
            let strange = matches!(reason, RepositoryError::AnotherServer { .. });
            let copied = context.in_bulk(async move {
                if strange {
                    return Err(pgbosun_backup::Error::Refused(
                        "it must not be mixed with another server's backups".into(),
                    ));
                }
                copy_backup(&from, &to, &backup, instance, &cancel).await?;
                Ok::<_, pgbosun_backup::Error>(to.find(Some(&backup.cluster), &backup.label).await?)
            });
            match copied.await {
                Ok(there) => {
                    outcome.summary.push_str(&format!("; {} caught up from {}", repository.name, source.name));
                    stored.push((repository.clone(), there));
                }
                Err(error) => {
                    let reason = human::chain(reason);
                    missing.push(repository.name.as_str());
                    outcome.findings.push(not_there(repository, &info.label, &reason, &human::chain(&error)));
                    if repository.options.required {
                        lacking.push(format!("{} ({reason})", repository.name));
                    }
                }
            }
        }
        if !missing.is_empty() {
            // C35: the copies that were taken stand, and what is missing where is said.
            outcome.summary.push_str(&format!("; missing from {}", missing.join(", ")));
        }
        if !lacking.is_empty() {
            outcome.failed = Some(format!("backup {} is not in {}", info.label, lacking.join(", ")));
        }
    }
}

fn not_there(repository: &Repository, label: &str, reason: &str, later: &str) -> Finding {
    Finding::new(
        if repository.options.required { Severity::Critical } else { Severity::Warning },
        format!("copy in {}", repository.name),
        format!("backup {label} is not in {}", repository.name),
    )
    .meaning("The backup is complete in the other repositories and missing in this one.")
    .advice(format!(
        "Fix the cause named below, then run \"pgbosun backup copy {label} --to {}\" or a job of kind replicate.",
        repository.name
    ))
    .detail(Detail::new().fact("during the backup", reason).fact("when it was copied afterwards", later))
}

fn summary(taken: &PhysicalBackup) -> String {
    let Some((_, info)) = taken.stored.first() else { return "nothing to do".into() };
    let names: Vec<_> = taken.stored.iter().map(|(repository, _)| repository.name.as_str()).collect();
    let ratio = info.bytes as f64 / info.stored_bytes.max(1) as f64;
    let kind = match (&info.parent, &taken.why_full) {
        (Some(parent), _) => format!(" (incremental, based on {parent})"),
        (None, Some(why)) => format!(" (full: {why})"),
        (None, None) => String::new(),
    };
    let mut summary = format!(
        "{}{kind} to {}: {} stored as {} ({ratio:.1} : 1) in {}",
        info.label,
        names.join(", "),
        human::size(info.bytes),
        human::size(info.stored_bytes),
        human::span(info.finished_at - info.started_at)
    );
    if !taken.removed_leftovers.is_empty() {
        summary.push_str(&format!("; removed leftovers {}", taken.removed_leftovers.join(", ")));
    }
    summary
}

/// C41: kept, alerted, and not a good backup.
fn orphaned(repository: &str, health: &Health) -> Option<Finding> {
    matches!(health, Health::Orphaned { .. }).then(|| {
        Finding::new(
            Severity::Critical,
            format!("timeline in {repository}"),
            "the server that was backed up is not on the live timeline of the cluster",
        )
        .meaning("A standby was promoted, and this server continues on its own. Its backups are useless.")
        .advice(
            "Find out which server the applications write to, and stop the other one. If the live one is not among the hosts \
             of the cluster's connection, add it there.",
        )
        .detail(health.to_string())
    })
}

/// C15: kept, alerted, not retried, and not a good backup.
fn suspect(repository: &str, info: &BackupInfo) -> Option<Finding> {
    info.checksum_failures.then(|| {
        Finding::new(
            Severity::Critical,
            format!("page checksums in {repository}"),
            format!("backup {} found damaged pages in the cluster", info.label),
        )
        .meaning("Data on the server's disk is not what PostgreSQL wrote. The backup holds the same damage.")
        .advice(
            "Look for \"checksum verification failed\" in the server's log, check the hardware, and keep the last \
                 good backup safe.",
        )
        .detail(Detail::new().fact("backup", format!("{} (suspect)", info.label)))
    })
}

pub(super) fn record(repository: &str, info: &BackupInfo) -> BackupRecord {
    BackupRecord {
        label: info.label.clone(),
        cluster: info.cluster.clone(),
        repository: repository.to_owned(),
        kind: info.kind.clone(),
        parent: info.parent.clone(),
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
