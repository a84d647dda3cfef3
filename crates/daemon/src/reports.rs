//! Reports as files: kept in `reports` of the state directory, as a page for people and as data for programs, and sent by mail.
//!
//! Invariant: a report is there whole or not at all; what is older than its time goes when a new one comes.

use crate::{
    api::{ReportAbout, ReportRequest},
    engine::Engine,
    error::Error,
};
use pgbosun_core::{
    config::{Cluster, Config, Job, Section, defaults},
    outcome::Issue,
    publish,
    report::Report,
    run::Run,
};
use pgbosun_history::NewNotification;
use pgbosun_jobs::{About, DrillReport, Health, HealthReport, PerformanceReport};
use pgbosun_notify::{Notifier, report};
use pgbosun_postgres::Server;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A report; kept and sent where that is asked for, as the job that makes such reports would.
///
/// # Errors
/// Where there is no such cluster, history cannot be read, or the report cannot be kept.
pub async fn make(engine: &Engine, request: &ReportRequest) -> Result<Report, Error> {
    let config = engine.config();
    let issue = match &request.about {
        ReportAbout::Performance { cluster, window, beside } => {
            let server = Server::of(known(&config, cluster)?)?;
            let about = About { config: &config, journal: &engine.journal, cluster, server: &server };
            let report = pgbosun_jobs::performance(&about, *window, *beside).await?;
            let job: PerformanceReport = job(config.options_of(cluster).next())?;
            Issue::new(report, &job.groups, job.keep)
        }
        ReportAbout::Health { cluster, about, window } => {
            cluster.as_ref().map(|name| known(&config, name)).transpose()?;
            let journal = engine.journal.clone();
            let health = Health {
                config: Arc::clone(&config),
                journal,
                cluster: cluster.clone(),
                about: *about,
                window: *window,
            };
            // It reads repositories, away from the threads of the scheduler.
            let report = engine.bulk.spawn(async move { health.report().await }).await;
            let report = report.map_err(|error| Error::BrokeOff("the report", error))??;
            let own =
                config.jobs.values().filter(|job| config.cluster_of(job).map(|(name, _)| name) == cluster.as_deref());
            let mut jobs = own.filter_map(|job| job.options::<HealthReport>());
            let job: HealthReport = job(jobs.find(|job| job.about == *about))?;
            Issue::new(report, &job.groups, job.keep)
        }
        ReportAbout::Drill { cluster } => {
            known(&config, cluster)?;
            let job: DrillReport = job(config.options_of(cluster).next())?;
            let report = job.report(&config, &engine.journal, cluster).await?;
            Issue::new(report, &job.groups, job.keep)
        }
    };
    let report = issue.report.clone();
    if request.mail {
        let messages = publish(engine, issue).await.map_err(|error| Error::System("keep the report", error))?;
        engine.journal.post(messages).await?;
        engine.outbox.notify_one();
    }
    Ok(report)
}

fn known<'a>(config: &'a Config, name: &str) -> Result<&'a Cluster, Error> {
    config.clusters.get(name).ok_or_else(|| Error::Refused(format!("no cluster {name}")))
}

/// A job's options, or what they are where there is none.
fn job<T: Section>(job: Option<T>) -> Result<T, Error> {
    job.or_else(defaults).ok_or_else(|| Error::Refused("no job makes such reports".into()))
}

/// The directory of reports.
fn directory(engine: &Engine) -> PathBuf {
    engine.config().daemon.state_directory.join("reports")
}

/// Keeps a report, and makes the messages that carry it.
pub(crate) async fn publish(engine: &Engine, issue: Issue) -> io::Result<Vec<NewNotification>> {
    let (directory, keep, report) = (directory(engine), issue.keep, issue.report.clone());
    // Its charts are drawn here.
    let kept = engine.bulk.spawn_blocking(move || store(&directory, &report, keep)).await;
    let path = kept.map_err(io::Error::other)??;
    let (config, now) = (engine.config(), engine.now());
    let instance = config.instance_name();
    let notifier = Notifier { config: &config, instance: &instance, now };
    Ok(issue.groups.iter().filter_map(|group| notifier.reported(group, &issue.report, &path)).collect())
}

/// The messages by which the job's group hears of a success.
pub(crate) fn succeeded(engine: &Engine, job: &Job, run: &Run) -> Vec<NewNotification> {
    let (config, now) = (engine.config(), engine.now());
    let instance = config.instance_name();
    Notifier { config: &config, instance: &instance, now }.succeeded(&job.group, run)
}

/// Writes the files of a report; where its data is.
fn store(directory: &Path, report: &Report, keep: Duration) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let stem = report.file_stem();
    publish::publish(&directory.join(format!("{stem}.html")), 0o640, report::page(report).as_bytes())?;
    let data = directory.join(format!("{stem}.json"));
    publish::publish(&data, 0o640, &serde_json::to_vec(report).map_err(io::Error::other)?)?;
    remove_old(directory, kind_of(&stem), keep);
    Ok(data)
}

/// What the name of a report says after its time and what chance made of it.
fn kind_of(stem: &str) -> &str {
    stem.splitn(3, '-').nth(2).unwrap_or_default()
}

/// Removes what is older than its time, of this kind of report alone: others may be kept longer.
fn remove_old(directory: &Path, kind: &str, keep: Duration) {
    let before = SystemTime::from(pgbosun_core::clock::now()).checked_sub(keep);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let made =
            stem.split('-').next().and_then(|at| chrono::NaiveDateTime::parse_from_str(at, "%Y%m%dT%H%M%SZ").ok());
        let old = made.zip(before).is_some_and(|(made, before)| SystemTime::from(made.and_utc()) < before);
        if kind_of(stem) == kind
            && old
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!("an old report was not removed: {}: {error}", entry.path().display());
        }
    }
}
