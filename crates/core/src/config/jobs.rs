//! The jobs of a configuration: those it names, and the monitors that run without being named.

use super::{
    Cluster, Daemon, Job, JobOptions,
    load::{dict_of, named},
    reader::{Findings, OptionDoc, Reader, Section},
    suggest::nearest,
};
use crate::{
    alert::PSEUDO_JOBS,
    family::{Family, short_name},
};
use figment::value::{Dict, Tag, Value};
use std::{any::Any, collections::BTreeMap, sync::Arc};

/// A kind of job, as far as configuration is concerned.
#[derive(Clone, Copy)]
pub struct Kind {
    /// `backup.physical`.
    pub name: &'static str,
    /// What it does.
    pub about: &'static [&'static str],
    /// Its own options.
    pub options: &'static [OptionDoc],
    /// What must be configured for it.
    pub needs: Needs,
    /// The group that is told unless the job names one.
    pub group: &'static str,
    /// How many checks in a row must see a problem before it is an alert, unless the job says otherwise.
    pub checks: u32,
    /// What it wants for itself of its cluster: jobs that want the same run one after the other.
    pub exclusive: &'static [&'static str],
    /// The schedule on which it runs without being named, where it does.
    pub every: Option<&'static str>,
    /// Reads its own options.
    pub read: fn(&mut Reader<'_>) -> Option<Arc<dyn Any + Send + Sync>>,
}

/// What must be configured for a kind of job to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but this machine.
    Host,
    /// A cluster.
    Cluster,
    /// A cluster whose data directory is on this machine.
    DataDirectory,
    /// A cluster whose logs are on this machine.
    LogDirectory,
    /// A cluster that is backed up.
    Backups,
    /// A cluster whose backups are tested.
    RestoreTests,
    /// A cluster that is reported on.
    Reports,
    /// Options of its own that nobody can guess.
    Options,
    /// The same, and a cluster.
    ClusterOptions,
}

impl Needs {
    /// Whether it cannot do anything while the cluster's server is down. Files, logs and repositories are there all the same.
    pub const fn server(self) -> bool {
        matches!(self, Self::Cluster | Self::ClusterOptions | Self::Reports)
    }

    /// Whether it works on a cluster.
    pub const fn cluster(self) -> bool {
        !matches!(self, Self::Host | Self::Options)
    }
}

/// Reads `[jobs.NAME]` for every name. `None` where a problem was recorded in any.
pub(super) fn read_jobs(gathered: &mut Findings, top: &Dict, kinds: &[Kind]) -> Option<BTreeMap<String, Job>> {
    named(gathered, top, "jobs", |gathered, name, path, value| {
        if PSEUDO_JOBS.contains(&name) {
            let hint = Some("choose another name".into());
            gathered.refuse(value.tag(), &path, None, "this name is reserved for the daemon's own alerts".into(), hint);
        }
        read_job(gathered, name, path, value, kinds)
    })
}

fn read_job(gathered: &mut Findings, name: &str, path: String, value: Value, kinds: &[Kind]) -> Option<Job> {
    let tag = value.tag();
    let dict = dict_of(gathered, &path, value)?;
    let kind_value = dict.get("kind").cloned();
    let mut reader = Reader::new(path, tag, dict, gathered);
    let common = JobOptions::read(&mut reader);
    let kind_name = kind_value.as_ref().and_then(Value::as_str);
    let Some(kind) = kinds.iter().find(|kind| Some(kind.name) == kind_name) else {
        if let Some(word) = kind_name {
            let names = || kinds.iter().map(|kind| kind.name);
            let hint = match nearest(word, names()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            reader.refuse("kind", format!("\"{word}\" is not a kind of job"), Some(hint));
        }
        return None; // Which other keys are valid, only the kind could say.
    };
    let options = (kind.read)(&mut reader);
    if let Some(common) = &common {
        check_job(&mut reader, common, kind);
    }
    reader.finish();
    Some(Job::new(name.to_owned(), kind, common?, options?))
}

fn check_job(reader: &mut Reader<'_>, common: &JobOptions, kind: &Kind) {
    if kind.needs.cluster() && common.cluster.is_none() && reader.known().clusters.len() != 1 {
        let defined = reader.known().clusters.join(", ");
        let hint = if defined.is_empty() {
            "define one under [clusters.NAME]".to_owned()
        } else {
            format!("there are several: {defined}")
        };
        reader.refuse("cluster", format!("is missing: a {} job needs one", kind.name), Some(hint));
    }
    if common.timeout.is_zero() {
        reader.refuse("timeout", "expected more than 0s", None);
    }
}

/// Adds every monitor that needs nothing but what is configured, unless a job of its kind is there already.
pub(super) fn add_monitors(
    gathered: &mut Findings,
    mut jobs: BTreeMap<String, Job>,
    kinds: &[Kind],
    daemon: &Daemon,
    clusters: &BTreeMap<String, Cluster>,
) -> BTreeMap<String, Job> {
    const HOST: &str = "host";
    let places = clusters.iter().map(|(name, cluster)| (name.as_str(), Some(cluster)));
    for (place, cluster) in places.chain([(HOST, None)]) {
        let here = |job: &&Job| job.cluster_among(clusters).map(|(name, _)| name) == cluster.map(|_| place);
        let own: Vec<_> = jobs.values().filter(here).cloned().collect();
        let has = |family| own.iter().any(|job| job.family() == family);
        let watched = cluster.map_or(daemon.watch, |cluster| cluster.watch);
        for (kind, every) in kinds.iter().filter_map(|kind| Some((kind, kind.every?))) {
            let fits = match (kind.needs, cluster) {
                (Needs::Host, None) | (Needs::Cluster, Some(_)) => true,
                (Needs::DataDirectory, Some(cluster)) => cluster.data_directory.is_some(),
                (Needs::LogDirectory, Some(cluster)) => cluster.log_directory.is_some(),
                (Needs::Backups, Some(_)) => has(Family::Backup),
                (Needs::RestoreTests, Some(_)) => has(Family::RestoreTest),
                (Needs::Reports, Some(_)) => own.iter().any(|job| job.common.kind == "report.performance"),
                _ => false,
            };
            let name = format!("{place}-{}", short_name(kind.name));
            // Without samples a report that is configured would have nothing to tell.
            let wanted = watched || kind.needs == Needs::Reports;
            if !wanted || !fits || own.iter().any(|job| job.common.kind == kind.name) || jobs.contains_key(&name) {
                continue;
            }
            let cluster = cluster.map(|_| ("cluster", place));
            let pairs = [("kind", kind.name), ("schedule", every)].into_iter().chain(cluster);
            let dict: Dict = pairs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
            let job = read_job(gathered, &name, format!("jobs.{name}"), Value::Dict(Tag::Default, dict), kinds);
            jobs.extend(job.map(|job| (name, job)));
        }
    }
    jobs
}
