//! Metrics for machines: `/metrics` in the format of Prometheus, and the summary of backups as JSON (reference 004).
//!
//! Everything is read when it is asked for: from the journal what must survive a restart, from memory what jobs measured
//! last. Names end with their unit; a metric that a restart begins anew is a counter (`_total`).

mod exposition;
mod summary;

pub use summary::{BackupSummary, Summary, summary};

use crate::{alerts, engine::Engine, error::Error};
use chrono::Duration;
use exposition::Page;
use pgbosun_core::{
    alert::AlertState,
    run::{Run, RunState},
};
use std::collections::BTreeMap;

/// Kinds of monitors that ask questions of the user's own.
const OWN_QUESTIONS: [&str; 2] = ["monitor.sql", "monitor.command"];

/// Everything, as text.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn text(engine: &Engine) -> Result<String, Error> {
    let mut page = Page::default();
    let instance = engine.config().instance_name();
    let version = env!("CARGO_PKG_VERSION");
    page.add("pgbosun_info", "Version of the program.", &[("instance", &instance), ("version", version)], 1.0);
    let started = engine.started.0.timestamp() as f64;
    page.add("pgbosun_start_time_seconds", "When the daemon started, unix time.", &[], started);
    jobs(engine, &mut page).await?;
    backups(engine, &mut page).await?;
    delivery(engine, &mut page).await?;
    measured(engine, &mut page);
    Ok(page.text())
}

async fn jobs(engine: &Engine, page: &mut Page) -> Result<(), Error> {
    let config = engine.config();
    let jobs = || config.jobs.keys().map(String::as_str);
    let labels = |run: &Run| [("job", run.job.clone()), ("kind", run.kind.clone()), ("cluster", cluster(run))];
    for run in engine.journal.last_runs(jobs()).await? {
        let labels = labels(&run);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Some(finished) = run.finished_at {
            let at = finished.timestamp() as f64;
            page.add("pgbosun_job_last_end_timestamp_seconds", "When the job last ended, unix time.", &labels, at);
            let took = run.started_at.map_or(0.0, |started| seconds(finished - started));
            page.add("pgbosun_job_last_duration_seconds", "How long the job last took.", &labels, took);
        }
        let succeeded = f64::from(u8::from(run.state == RunState::Succeeded));
        page.add("pgbosun_job_last_succeeded", "Whether the job's last run succeeded.", &labels, succeeded);
    }
    for run in engine.journal.last_successes(jobs()).await? {
        let labels = labels(&run);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let at = run.finished_at.unwrap_or(run.scheduled_for).timestamp() as f64;
        page.add("pgbosun_job_last_success_timestamp_seconds", "When the job last succeeded, unix time.", &labels, at);
    }
    for ((job, state), count) in engine.latest_metrics.ended() {
        let labels = [("job", job.as_str()), ("state", state.as_str())];
        page.add(
            "pgbosun_job_runs_total",
            "Runs that ended like this since the daemon started.",
            &labels,
            count as f64,
        );
    }
    let running: BTreeMap<String, _> = engine.live().iter().map(|(job, live)| (job.clone(), live.since)).collect();
    let now = engine.now();
    for job in config.jobs.keys() {
        let since = running.get(job).map_or(0.0, |since| seconds(now - *since));
        let labels = [("job", job.as_str())];
        page.add("pgbosun_job_running_seconds", "How long the job has been running; 0 if it is not.", &labels, since);
    }
    Ok(())
}

fn cluster(run: &Run) -> String {
    run.cluster.clone().unwrap_or_default()
}

async fn backups(engine: &Engine, page: &mut Page) -> Result<(), Error> {
    let now = engine.now();
    let mut newest: BTreeMap<(String, String), _> = BTreeMap::new();
    for row in engine.journal.backups().await? {
        if row.state.is_good() {
            newest.entry((row.cluster.clone(), row.repository.clone())).or_insert(row);
        }
    }
    for ((cluster, repository), row) in &newest {
        let labels = [("cluster", cluster.as_str()), ("repository", repository.as_str())];
        let at = row.finished_at.timestamp() as f64;
        let mut add = |name: &str, help: &str, value: f64| page.add(name, help, &labels, value);
        let last = "postgres_backup_last_success_timestamp_seconds";
        add(last, "When the newest good backup ended, unix time.", at);
        add("postgres_backup_age_seconds", "Age of the newest good backup.", seconds(now - row.finished_at));
        add(
            "postgres_backup_last_size_bytes",
            "Size of the newest good backup in the repository.",
            row.stored_bytes as f64,
        );
        add(
            "postgres_backup_last_read_bytes",
            "How much the newest good backup read from the server.",
            row.bytes as f64,
        );
    }
    for test in engine.journal.last_restore_tests().await? {
        let labels = [("cluster", test.cluster.as_str())];
        let at = test.started_at.timestamp() as f64;
        let help = "When the last restore test started, passed or not, unix time.";
        page.add("postgres_restore_test_last_timestamp_seconds", help, &labels, at);
    }
    for name in engine.config().clusters.keys() {
        let Some(receiver) = engine.receivers.of(name) else { continue };
        let labels = [("cluster", name.as_str())];
        let help = "Bytes of WAL that the server has written but this machine has not received.";
        page.add("postgres_wal_receiver_behind_bytes", help, &labels, receiver.behind_bytes as f64);
        let well = f64::from(u8::from(receiver.trouble.is_none()));
        page.add("postgres_wal_receiving", "Whether WAL is being received at this moment.", &labels, well);
    }
    Ok(())
}

async fn delivery(engine: &Engine, page: &mut Page) -> Result<(), Error> {
    let unresolved = alerts::list(engine, None).await?;
    for info in &unresolved {
        let (alert, muted) = (&info.alert, info.muted.is_some());
        let cluster = alert.cluster.as_deref().unwrap_or_default();
        let labels = [
            ("cluster", cluster),
            ("job", &alert.job),
            ("object", alert.object()),
            ("severity", alert.severity.as_str()),
            ("state", if muted { "muted" } else { alert.state.as_str() }),
        ];
        page.add("pgbosun_alert", "Alerts that are not resolved.", &labels, 1.0);
    }
    let open: Vec<_> = unresolved.iter().map(|info| &info.alert).filter(|a| a.state != AlertState::Pending).collect();
    for severity in ["warning", "unknown", "critical"] {
        let count = open.iter().filter(|alert| alert.severity.as_str() == severity).count();
        page.add(
            "pgbosun_alerts_open",
            "Alerts that are open or acknowledged.",
            &[("severity", severity)],
            count as f64,
        );
    }
    let waiting = engine.journal.outbox_depth().await?;
    page.add("pgbosun_outbox_messages", "Messages waiting to be sent.", &[], f64::from(waiting));
    for backlog in engine.journal.backlog(engine.now() - Duration::days(1)).await? {
        let labels = [("channel", backlog.channel.as_str())];
        let since = backlog.since.map_or(0.0, |since| seconds(engine.now() - since));
        page.add(
            "pgbosun_channel_failing_seconds",
            "How long the oldest message that the channel refused has been waiting.",
            &labels,
            since,
        );
        let help = "Messages given up within the last day.";
        page.add("pgbosun_channel_dead_messages", help, &labels, f64::from(backlog.dead));
    }
    if engine.config().history.connection.is_some() {
        let reached = f64::from(u8::from(engine.history_trouble.borrow().is_none()));
        page.add("pgbosun_history_reachable", "Whether the history database accepts rows.", &[], reached);
    }
    Ok(())
}

/// What monitors measured, under their own names.
fn measured(engine: &Engine, page: &mut Page) {
    for (job, measured) in engine.latest_metrics.all(&engine.config()) {
        let help = format!("Measured by {}.", measured.kind);
        for metric in &measured.metrics {
            let cluster = measured.cluster.iter().map(|cluster| ("cluster", cluster.as_str()));
            let own = metric.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            // What the user asks for has one name for all.
            let asked = OWN_QUESTIONS.contains(&measured.kind.as_str()).then_some(("job", job.as_str()));
            let labels: Vec<_> = cluster.chain(asked).chain(own).collect();
            page.add(&metric.name, &help, &labels, metric.value);
        }
    }
}

fn seconds(span: Duration) -> f64 {
    span.num_milliseconds() as f64 / 1000.0
}
