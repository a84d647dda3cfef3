//! The one list of job kinds: what each is called, which options it has, how it is made from them.

use crate::{
    Job,
    backups::{BackupPhysical, Heartbeat, Replicate, RestoreTestJob, VerifyJob, WalCleanup},
    logs::LogsRotate,
    maintenance::{Advice, Analyze, Catalog, Integrity, Reindex, Vacuum},
    monitors::{
        Autovacuum, BackupAge, BackupCopies, BackupCount, BackupSize, BackupSuccess, Bloat, CacheHit, Certificate,
        Checkpoints, Checksums, Clock, CommandMonitor, Connections, Connectivity, Cpu, DatabaseSize, Deadlocks, Disk,
        FailedLogins, Hba, InvalidIndexes, Locks, LogSize, LongTransactions, Memory, Monitor, MonitorFacts, MonitorJob,
        Passwords, Permissions, Pressure, Reachability, ReplicationLag, Restart, RestoreTests, Role, Sequences,
        Settings, Slots, SqlMonitor, Standby, Statements, Statistics, Superusers, Tablespaces, TempBytes,
        TemporaryFiles, Unlogged, Version, WalArchive, WalGaps, WalSize, XidAge, reference,
    },
    programs::{CommandJob, SqlJob},
    reports::{DrillReport, HealthReport, PerformanceReport},
    samples::Sample,
};
use pgbosun_core::config::{self, Kind, Needs, Section};
use std::sync::Arc;

struct Entry {
    kind: Kind,
    build: fn(&config::Job) -> Option<Box<dyn Job>>,
    facts: Option<MonitorFacts>,
}

const fn job<T: Job + Section + Clone + 'static>(
    name: &'static str,
    needs: Needs,
    exclusive: &'static [&'static str],
) -> Entry {
    let (about, options, group, checks, every) = (T::ABOUT, T::OPTIONS, "database", 1, None);
    Entry {
        kind: Kind {
            name,
            about,
            options,
            needs,
            group,
            checks,
            exclusive,
            every,
            read: |r| Some(Arc::new(T::read(r)?)),
        },
        build: |job| Some(Box::new(job.options::<T>()?)),
        facts: None,
    }
}

/// One that runs without being named, where what it needs is there.
const fn by_itself(entry: Entry, every: &'static str) -> Entry {
    Entry { kind: Kind { every: Some(every), ..entry.kind }, ..entry }
}

const fn monitor<T: Monitor + Section + Clone + 'static>(name: &'static str) -> Entry {
    let MonitorFacts { every, group, checks, needs, .. } = T::FACTS;
    let (about, options, exclusive, every): (_, _, &[&str], _) = (T::ABOUT, T::OPTIONS, &[], Some(every));
    Entry {
        kind: Kind {
            name,
            about,
            options,
            needs,
            group,
            checks,
            exclusive,
            every,
            read: |r| Some(Arc::new(T::read(r)?)),
        },
        build: |job| Some(Box::new(MonitorJob(job.options::<T>()?))),
        facts: Some(T::FACTS),
    }
}

const ENTRIES: [Entry; 71] = [
    monitor::<Connectivity>("monitor.connectivity"),
    monitor::<Role>("monitor.role"),
    monitor::<Restart>("monitor.restart"),
    monitor::<Version>("monitor.version"),
    monitor::<Settings>("monitor.settings"),
    monitor::<Certificate>("monitor.certificate"),
    monitor::<Connections>("monitor.connections"),
    monitor::<DatabaseSize>("monitor.database-size"),
    monitor::<Tablespaces>("monitor.tablespaces"),
    monitor::<WalSize>("monitor.wal-size"),
    monitor::<TempBytes>("monitor.temp-bytes"),
    monitor::<XidAge>("monitor.xid-age"),
    monitor::<LongTransactions>("monitor.long-transactions"),
    monitor::<Locks>("monitor.locks"),
    monitor::<Deadlocks>("monitor.deadlocks"),
    monitor::<ReplicationLag>("monitor.replication-lag"),
    monitor::<Slots>("monitor.slots"),
    monitor::<Standby>("monitor.standby"),
    monitor::<WalArchive>("monitor.wal-archive"),
    monitor::<WalGaps>("monitor.wal-gaps"),
    monitor::<BackupAge>("monitor.backup-age"),
    monitor::<BackupSize>("monitor.backup-size"),
    monitor::<BackupCount>("monitor.backup-count"),
    monitor::<BackupSuccess>("monitor.backup-success"),
    monitor::<BackupCopies>("monitor.backup-copies"),
    monitor::<RestoreTests>("monitor.restore-tests"),
    monitor::<CacheHit>("monitor.cache-hit"),
    monitor::<Checkpoints>("monitor.checkpoints"),
    monitor::<Checksums>("monitor.checksums"),
    monitor::<InvalidIndexes>("monitor.invalid-indexes"),
    monitor::<Unlogged>("monitor.unlogged"),
    monitor::<Sequences>("monitor.sequences"),
    monitor::<Statistics>("monitor.statistics"),
    monitor::<Autovacuum>("monitor.autovacuum"),
    monitor::<crate::monitors::Vacuum>("monitor.vacuum"),
    monitor::<Bloat>("monitor.bloat"),
    monitor::<Statements>("monitor.statements"),
    monitor::<Disk>("monitor.disk"),
    monitor::<Cpu>("monitor.cpu"),
    monitor::<Memory>("monitor.memory"),
    monitor::<Pressure>("monitor.pressure"),
    monitor::<Clock>("monitor.clock"),
    monitor::<Reachability>("monitor.reachability"),
    monitor::<Permissions>("monitor.permissions"),
    monitor::<TemporaryFiles>("monitor.temporary-files"),
    monitor::<LogSize>("monitor.log-size"),
    monitor::<FailedLogins>("monitor.failed-logins"),
    monitor::<Superusers>("monitor.superusers"),
    monitor::<Hba>("monitor.hba"),
    monitor::<Passwords>("monitor.passwords"),
    monitor::<SqlMonitor>("monitor.sql"),
    monitor::<CommandMonitor>("monitor.command"),
    job::<BackupPhysical>("backup.physical", Needs::Cluster, &["backup"]),
    job::<WalCleanup>("wal.cleanup", Needs::Backups, &[]),
    job::<Replicate>("replicate", Needs::Backups, &[]),
    job::<VerifyJob>("verify", Needs::Backups, &[]),
    job::<RestoreTestJob>("restore-test", Needs::Backups, &[]),
    job::<Heartbeat>("heartbeat", Needs::Cluster, &[]),
    job::<Vacuum>("maintenance.vacuum", Needs::Cluster, &["maintenance"]),
    job::<Analyze>("maintenance.analyze", Needs::Cluster, &["maintenance"]),
    job::<Catalog>("maintenance.catalog", Needs::Cluster, &["backup", "maintenance"]),
    job::<Reindex>("maintenance.reindex", Needs::Cluster, &["backup", "maintenance"]),
    job::<Integrity>("maintenance.integrity", Needs::Cluster, &["maintenance"]),
    job::<Advice>("maintenance.advice", Needs::Cluster, &[]),
    job::<LogsRotate>("logs.rotate", Needs::LogDirectory, &[]),
    job::<PerformanceReport>("report.performance", Needs::Cluster, &[]),
    job::<HealthReport>("report.health", Needs::Host, &[]),
    job::<DrillReport>("report.drill", Needs::Backups, &[]),
    by_itself(job::<Sample>("sample", Needs::Reports, &[]), "*/5 * * * *"),
    job::<CommandJob>("command", Needs::Host, &[]),
    job::<SqlJob>("sql", Needs::Cluster, &[]),
];

/// Every kind of job, for reading configuration and for its reference.
pub fn kinds() -> Vec<Kind> {
    ENTRIES.iter().map(|entry| entry.kind).collect()
}

/// `docs/monitors.md`.
pub fn monitors() -> String {
    let monitors: Vec<_> = ENTRIES.iter().filter_map(|entry| Some((entry.kind, entry.facts?))).collect();
    reference(&monitors)
}

/// The job as configured; `None` only for a kind that reading the configuration has not seen.
pub fn build(job: &config::Job) -> Option<Box<dyn Job>> {
    let entry = ENTRIES.iter().find(|entry| entry.kind.name == job.common.kind)?;
    (entry.build)(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::family::Family;

    #[test]
    fn every_kind_has_its_family() {
        let monitors = ENTRIES.iter().filter(|entry| Family::of(entry.kind.name) == Family::Monitor);
        assert!(monitors.clone().count() > 40 && monitors.clone().all(|entry| entry.facts.is_some()));
        let programs = kinds().into_iter().map(|kind| kind.name).filter(|name| Family::of(name) == Family::Program);
        assert_eq!(programs.collect::<Vec<_>>(), ["heartbeat", "command", "sql"]);
    }
}
