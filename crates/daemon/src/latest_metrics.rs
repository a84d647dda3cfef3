//! What jobs measured last, for machines that collect it. In memory alone: after a start the next checks fill it.

use pgbosun_core::{
    config::Config,
    metric::Metric,
    run::{Run, RunState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

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
    /// Clusters whose server did not answer the last job that asked it.
    away: Mutex<BTreeSet<String>>,
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

    /// Notes whether the server of a cluster answered a job just now.
    pub fn answers(&self, cluster: &str, answers: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = if answers { away.remove(cluster) } else { away.insert(cluster.to_owned()) };
    }

    /// Whether the server of a cluster did not answer the last job that asked it.
    pub fn is_away(&self, cluster: &str) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).contains(cluster)
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
