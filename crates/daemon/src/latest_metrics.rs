//! What jobs measured last, for machines that collect it. In memory alone: after a start the next checks fill it.

use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{
    config::Config,
    metric::Metric,
    run::{Run, RunState},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// For so long it is believed that a server is away to which a job could not connect: longer than from check to check of the monitor
/// that knows.
const MOMENT: TimeDelta = TimeDelta::minutes(6);

/// The metrics of one job's last success.
#[derive(Clone, Debug)]
pub struct JobMetrics {
    /// Kind of the job.
    pub kind: String,
    /// Its cluster.
    pub cluster: Option<String>,
    /// What it measured.
    pub metrics: Vec<Metric>,
}

/// The metrics of every job, and how often each ended how.
#[derive(Debug, Default)]
pub struct LatestMetrics {
    measured: Mutex<BTreeMap<String, JobMetrics>>,
    ended: Mutex<BTreeMap<(String, RunState), u64>>,
    /// Clusters to whose server a job could not connect, and when.
    away: Mutex<BTreeMap<String, DateTime<Utc>>>,
}

impl LatestMetrics {
    /// Keeps what a run measured; nothing, where a monitor could not check.
    pub fn keep(&self, run: &Run, metrics: Vec<Metric>) {
        let measured = JobMetrics { kind: run.kind.clone(), cluster: run.cluster.clone(), metrics };
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).insert(run.job.clone(), measured);
    }

    /// Counts a run that ended.
    pub fn count(&self, run: &Run) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((run.job.clone(), run.state)).or_default() += 1;
    }

    /// Notes that a job could not connect to the server of a cluster, or that one could.
    pub fn connected(&self, cluster: &str, connected: bool, now: DateTime<Utc>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = if connected { away.remove(cluster) } else { away.insert(cluster.to_owned(), now) };
    }

    /// Whether a job could not connect to the server of a cluster a moment ago, and none could since.
    pub fn is_away(&self, cluster: &str, now: DateTime<Utc>) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.get(cluster).is_some_and(|at| now - *at < MOMENT)
    }

    /// What the configured jobs measured last, by job.
    pub fn all(&self, config: &Config) -> BTreeMap<String, JobMetrics> {
        let mut kept = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|job, _| config.jobs.contains_key(job));
        kept.clone()
    }

    /// How often jobs ended how since the daemon started.
    pub fn ended(&self) -> BTreeMap<(String, RunState), u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
