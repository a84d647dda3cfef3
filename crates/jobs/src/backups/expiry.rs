//! Expiry as part of other jobs and of the command: the rules of a cluster, and what came of them in words.

use super::BackupPhysical;
use crate::{JobContext, JobError, monitors::synchronized};
use chrono::{DateTime, Utc};
use pgbosun_backup::{Expire, Expired, Rules, server_time};
use pgbosun_core::{
    clock,
    config::{Config, Retention},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    outcome::{AuditRecord, BackupState, BackupStateRecord, Outcome, Record},
};
use pgbosun_postgres::Server;
use pgbosun_repository::Repository;
use uuid::Uuid;

/// The retention of each backup job of a cluster in a repository; the repository's own goes before the job's.
pub fn rules(config: &Config, cluster: &str, repository: &Repository) -> Rules {
    let jobs = config.jobs.values().filter(|job| config.cluster_of(job).is_some_and(|(name, _)| name == cluster));
    let retention = |job: &pgbosun_core::config::Job| -> Option<Retention> {
        let options = job.options::<BackupPhysical>()?;
        let there = options.repositories.iter().any(|name| name.0 == repository.name);
        repository.options.retention.or(options.retention.filter(|_| there))
    };
    jobs.filter_map(|job| Some((job.name.clone(), retention(job)?))).collect()
}

/// An expiry as configured.
pub fn configured(
    config: &Config,
    cluster: &str,
    repository: &Repository,
    instance: Uuid,
    backups: bool,
    dry_run: bool,
) -> Expire {
    Expire {
        repository: repository.clone(),
        cluster: cluster.to_owned(),
        rules: rules(config, cluster, repository),
        zone: config.daemon.time_zone,
        instance,
        backups,
        dry_run,
        spared: Vec::new(),
        witnesses: Vec::new(),
    }
}

/// The clocks that a clock which removes things is compared with (C33), beside the store's: the server's, where it
/// answers.
pub async fn witnesses(cluster: &str, server: &Server) -> Vec<(String, DateTime<Utc>)> {
    let time = server_time(server).await.ok();
    time.map(|time| (format!("the server of {cluster}"), time)).into_iter().collect()
}

/// Who contradicts a clock that was set while the daemon runs.
const PASSED: &str = "its uptime since pgbosun started (if the clock has been corrected since then, restart pgbosun)";

/// Expires, and adds to an outcome what came of it: a step of its own, whose failure does not make the job fail (C28). What this run
/// has just taken stays.
pub(super) async fn expire(
    context: &JobContext,
    repository: &Repository,
    backups: bool,
    spared: &[String],
    outcome: &mut Outcome,
) {
    let Ok((cluster, server)) = context.cluster() else { return };
    let instance = context.journal.instance();
    let mut expire = configured(&context.config, cluster, repository, instance, backups, context.dry_run);
    if expire.rules.is_empty() {
        return;
    }
    context.progress.step(format!("removing old backups from {}", repository.name), 0);
    expire.spared = spared.to_vec();
    expire.witnesses = witnesses(cluster, server).await;
    // On one machine the store and the server have the same clock: only what has passed contradicts one that was set ahead. Where a time
    // service keeps it, it was set right: after a pause of a virtual machine, or of a clock that was wrong at the start.
    if synchronized().await != Some(true) {
        expire.witnesses.extend(clock::by_uptime().map(|time| (PASSED.to_owned(), time)));
    }
    let done = context.in_bulk(async move { Ok::<_, JobError>(expire.run(clock::now()).await) }).await;
    let done = done.and_then(|(expired, done)| {
        tell(repository, cluster, &expired, outcome);
        done.map_err(JobError::from)
    });
    match done {
        Ok(()) => {}
        // Somebody else is at work there, or it is away for a moment: the next expiry does it.
        Err(error) if error.is_transient() => {
            outcome.summary.push_str(&format!(
                "; nothing more was removed from {}: {}",
                repository.name,
                human::chain(&error)
            ));
        }
        Err(error) => outcome.findings.push(not_expired(&repository.name, &human::chain(&error))),
    }
}

fn tell(repository: &Repository, cluster: &str, expired: &Expired, outcome: &mut Outcome) {
    let name = &repository.name;
    if !expired.doubts.is_empty() {
        outcome.findings.push(not_expired(name, &expired.doubts.join("\nerror: ")));
    }
    let mut changed = |object: &str, detail: String| {
        let change = AuditRecord::new("expire", object, detail).came("removed");
        outcome.records.push(Record::Audit(change));
    };
    for label in expired.removed.iter().chain(&expired.leftovers) {
        changed(label, format!("of {cluster} in {name}"));
    }
    if expired.wal_removed > 0 {
        changed(
            "WAL",
            format!(
                "{} ({}) of {cluster} in {name}",
                human::count(expired.wal_removed, "file"),
                human::size(expired.wal_bytes)
            ),
        );
    }
    for label in &expired.removed {
        outcome.records.push(Record::BackupState(BackupStateRecord {
            label: label.clone(),
            cluster: cluster.to_owned(),
            repository: name.clone(),
            state: BackupState::Removed,
        }));
    }
    if !expired.removed.is_empty() {
        outcome.summary.push_str(&format!("; removed {} from {name}", expired.removed.join(", ")));
    }
    if !expired.leftovers.is_empty() {
        outcome.summary.push_str(&format!("; removed leftovers {} from {name}", expired.leftovers.join(", ")));
    }
    if expired.wal_removed > 0 {
        let size = human::size(expired.wal_bytes);
        outcome
            .summary
            .push_str(&format!("; removed {} from {name} ({size})", human::count(expired.wal_removed, "WAL file")));
    }
}

/// The backup is there; only the tidying up after it is not done.
fn not_expired(repository: &str, error: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        format!("retention in {repository}"),
        format!("old backups in {repository} were not removed"),
    )
    .meaning("The new backup is complete, but the repository grows.")
    .advice("Fix the cause named below; the next backup tries again.")
    .detail(Detail::error(error))
}
