//! Status, put together from journal and configuration; with the daemon's own knowledge where there is a daemon.

use crate::{
    alerts,
    api::{
        ArchiveStatus, ClusterStatus, HistoryStatus, JobInfo, NewestBackup, RestoreTest, Running, ServerStatus, Status,
    },
    engine::Engine,
    error::Error,
    holdings::{self, Held},
    latest_metrics::JobMetrics,
    schedule::{Upcoming, upcoming},
    scheduler::PAUSED_ALL,
};
use chrono::{DateTime, Duration};
use pgbosun_backup::Words;
use pgbosun_core::{config::Job, run::Run, schedule::Schedule};
use pgbosun_history::{JobRow, Pause};
use std::collections::BTreeMap;

/// How a server archives, of what was measured of its cluster.
fn archive<'a>(mut measured: impl Iterator<Item = &'a JobMetrics>) -> Option<ArchiveStatus> {
    let measured = measured.find(|measured| measured.kind == "monitor.wal-archive")?;
    let metric = |name: &str| measured.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value);
    let last = metric("postgres_wal_last_archived_timestamp_seconds");
    // One that archives nothing has no such metric.
    let failing = metric("postgres_wal_archiver_failing")? > 0.0;
    Some(ArchiveStatus {
        last_archived_at: last.and_then(|at| DateTime::from_timestamp(at as i64, 0)),
        waiting: metric("postgres_wal_ready_segments").unwrap_or_default() as u64,
        failing,
    })
}

/// A server, of what was measured of its cluster and what its monitors said last. No question is asked: it may hang.
fn server(name: &str, away: bool, measured: &BTreeMap<String, JobMetrics>, last: &[Run]) -> Option<ServerStatus> {
    let of_it = || measured.values().filter(|measured| measured.cluster.as_deref() == Some(name));
    let metric = |wanted: &str| {
        let mut metrics = of_it().flat_map(|measured| &measured.metrics);
        metrics.find(|metric| metric.name == wanted).map(|metric| metric.value)
    };
    let number = metric("postgres_version_number").map(|number| number as u32);
    let number = number.map(|number| format!("{}.{}", number / 10_000, number % 10_000));
    // After a start of the daemon the last check of the one before knows it.
    let mut versions = last.iter().filter(|run| run.kind == "monitor.version" && run.cluster.as_deref() == Some(name));
    let said = || Some(versions.next()?.summary.strip_prefix("PostgreSQL ")?.split([' ', ':', ',']).next()?.to_owned());
    let server = ServerStatus {
        answers: if away { Some(false) } else { metric("postgres_up").map(|up| up > 0.0) },
        version: number.or_else(said),
        standby: metric("postgres_in_recovery").map(|standby| standby > 0.0),
        started_at: metric("postgres_start_time_seconds").and_then(|at| DateTime::from_timestamp(at as i64, 0)),
    };
    let known = server.answers.is_some() || server.version.is_some() || server.standby.is_some();
    (known || server.started_at.is_some()).then_some(server)
}

/// The newest good backup of a cluster in a repository; where none is good the newest.
fn newest(held: &Held, cluster: &str) -> Option<NewestBackup> {
    let mut backups = held.backups.iter().filter(|backup| backup.cluster == cluster).rev();
    let count = backups.clone().count();
    let newest = backups.clone().find(|backup| backup.good).or_else(|| backups.next())?;
    Some(NewestBackup {
        repository: held.repository.clone(),
        label: newest.label.clone(),
        state: newest.state.clone(),
        finished_at: newest.finished_at,
        stored_bytes: newest.stored_bytes,
        count,
        away: held.away.clone(),
    })
}

/// What is at work, the longest first; from memory alone, so that who waits for a run may ask often.
pub fn running(engine: &Engine) -> Vec<Running> {
    let mut running: Vec<_> = engine
        .live()
        .iter()
        .map(|(job, live)| {
            let progress = live.progress.snapshot();
            let Words { step: what, detail } = live.progress.words();
            Running {
                id: live.id,
                job: job.clone(),
                since: live.since,
                done: progress.done,
                total: progress.total,
                what,
                detail,
            }
        })
        .collect();
    running.sort_by_key(|running| running.since);
    running
}

/// The newest restore test of a cluster, as history has it.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn last_restore_test(engine: &Engine, cluster: &str) -> Result<Option<RestoreTest>, Error> {
    let tests = engine.journal.last_restore_tests().await?;
    Ok(tests.iter().find(|test| test.cluster == cluster).map(Into::into))
}

/// How everything stands. `daemon` says that this process is one.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn assemble(engine: &Engine, daemon: bool) -> Result<Status, Error> {
    let (config, journal, now) = (engine.config(), &engine.journal, engine.now());
    let (held, restorable) = tokio::join!(holdings::held(engine), holdings::restorable(engine));
    let held = held?;
    let tests = journal.last_restore_tests().await?;
    let measured = engine.latest_metrics.all(&config);
    let last = journal.last_runs(config.jobs.keys().map(String::as_str)).await?;
    let clusters = config.clusters.keys().map(|name| {
        let newest: Vec<_> = held.iter().filter_map(|held| newest(held, name)).collect();
        ClusterStatus {
            name: name.clone(),
            server: server(name, engine.latest_metrics.is_away(name, now), &measured, &last),
            backup_count: newest.iter().map(|backup| backup.count).sum(),
            backups: newest,
            restorable: restorable.get(name).cloned(),
            restore_test: tests.iter().find(|test| test.cluster == *name).map(Into::into),
            receiver: engine.receivers.of(name),
            archive: archive(measured.values().filter(|measured| measured.cluster.as_deref() == Some(name))),
        }
    });
    let is_monitor = |job: &str| config.jobs.get(job).is_some_and(Job::is_monitor);
    let (checks, mut next): (Vec<_>, Vec<_>) =
        upcoming(&config, now, now + Duration::days(31), 1).into_iter().partition(|next| is_monitor(&next.job));
    next.truncate(8);
    let pauses = Pauses::read(engine).await?;
    next.iter_mut().for_each(|run| pauses.mark(run));
    let trouble = engine.history_trouble.borrow().clone();
    let unreadable = held.iter().flat_map(|held| {
        let name = &held.repository;
        held.unreadable.iter().map(move |reason| format!("{name}: {reason}"))
    });
    Ok(Status {
        unreadable: unreadable.collect(),
        version: env!("CARGO_PKG_VERSION").into(),
        instance: config.instance_name(),
        daemon_since: daemon.then_some(engine.started.0),
        at: now,
        paused: pauses.all.map(|pause| format!("by {}: {}", pause.by, pause.reason)),
        clusters: clusters.collect::<Vec<_>>(),
        alerts: alerts::list(engine, None).await?,
        running: running(engine),
        next,
        monitors: config.jobs.values().filter(|job| job.is_monitor()).count(),
        next_check: checks.first().map(|check| check.at),
        last,
        outbox: journal.outbox_depth().await?,
        history: HistoryStatus {
            configured: config.history.connection.is_some(),
            trouble: trouble.map(|(since, reason)| {
                let since = since.with_timezone(&config.daemon.time_zone);
                format!("since {}: {reason}", since.format("%H:%M:%S %Z"))
            }),
        },
    })
}

/// Which jobs are paused: each by itself, or all.
struct Pauses {
    rows: Vec<JobRow>,
    all: Option<Pause>,
}

impl Pauses {
    async fn read(engine: &Engine) -> Result<Self, Error> {
        let all = engine.journal.setting(PAUSED_ALL).await?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self { rows: engine.journal.jobs().await?, all })
    }

    /// Who paused a job, and why.
    fn of(&self, job: &str) -> Option<(&str, &str)> {
        let own = self.rows.iter().find(|row| row.name == job && row.paused_at.is_some());
        let own = own
            .map(|row| (row.paused_by.as_deref().unwrap_or_default(), row.pause_reason.as_deref().unwrap_or_default()));
        own.or_else(|| self.all.as_ref().map(|pause| (pause.by.as_str(), pause.reason.as_str())))
    }

    /// Says of a coming run that its job is paused.
    fn mark(&self, run: &mut Upcoming) {
        if let Some((by, _)) = self.of(&run.job) {
            let note = run.note.take().map_or_else(String::new, |note| format!("; {note}"));
            run.note = Some(format!("paused by {by}{note}"));
        }
    }
}

/// Every configured job.
pub async fn jobs(engine: &Engine) -> Result<Vec<JobInfo>, Error> {
    let (config, now) = (engine.config(), engine.now());
    let pauses = Pauses::read(engine).await?;
    let last = engine.journal.last_runs(config.jobs.keys().map(String::as_str)).await?;
    let next = upcoming(&config, now, now + Duration::days(400), 1);
    Ok(config
        .jobs
        .values()
        .map(|job| {
            let disabled = (!job.common.enabled).then(|| "disabled in the configuration".to_owned());
            JobInfo {
                name: job.name.clone(),
                kind: job.common.kind.clone(),
                cluster: config.cluster_of(job).map(|(name, _)| name.to_owned()),
                enabled: job.common.enabled,
                schedule: job.common.schedule.as_ref().map(Schedule::to_string),
                time_zone: config.zone_of(job).name().to_owned(),
                paused: disabled.or_else(|| pauses.of(&job.name).map(|(by, reason)| format!("by {by}: {reason}"))),
                next: next.iter().find(|upcoming| upcoming.job == job.name).map(|upcoming| upcoming.at),
                last: last.iter().find(|run| run.job == job.name).cloned(),
            }
        })
        .collect())
}
