//! Configuration: `/etc/pgbosun/pgbosun.toml`, `conf.d/*.toml` beside it, `PGBOSUN_SECTION__KEY` variables.
//!
//! Invariants: every option is declared once, by [`options!`](crate::options), with its documentation, type and
//! default; from there come reading, `config check`, `config show` and `config reference`. All problems are
//! found in one pass, and a configuration with problems is never used.

mod address;
mod jobs;
mod load;
mod problem;
mod reader;
mod reference;
mod retention;
mod secret;
mod sections;
mod setting;
mod suggest;
mod variant;

pub use address::MailAddress;
pub use jobs::{Kind, Needs};
pub use load::{
    DEFAULT_PATH, Loaded, Registry, daemon_user, load, load_without_secrets, repository, state_directory, unread,
};
pub use problem::{Problem, Problems};
pub use reader::{Effective, OptionDoc, Reader, Section, defaults};
pub use reference::{Page, reference};
pub use retention::Retention;
pub use secret::Secret;
pub use sections::{
    Channel, ChannelCommon, Cluster, Compression, Daemon, Group, History, JobOptions, Mail, MailSecurity,
    MailTransport, Metadata, Repository, RepositoryOptions, Wal,
};
pub use setting::{
    ChannelName, ClusterName, GroupName, KnownNames, Listen, Patience, Rate, Refusal, RepositoryName, Setting,
};
pub use suggest::nearest;
pub use variant::{ChannelOptions, StoreOptions, TypeName, Variant};

pub use figment::value::Value as RawValue;

use crate::{
    family::Family,
    schedule::{Blackout, CatchUp},
};
use chrono::{DateTime, Utc};
use std::{any::Any, collections::BTreeMap, path::PathBuf, sync::Arc};

/// The whole configuration, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[history]`.
    pub history: History,
    /// `[clusters.NAME]`.
    pub clusters: BTreeMap<String, Cluster>,
    /// `[repositories.NAME]`.
    pub repositories: BTreeMap<String, Repository>,
    /// `[wal]`.
    pub wal: Wal,
    /// `[mail]`, where mail is sent.
    pub mail: Option<Mail>,
    /// `[channels.NAME]`.
    pub channels: BTreeMap<String, Channel>,
    /// `[groups.NAME]`, the three built-in ones among them.
    pub groups: BTreeMap<String, Group>,
    /// `[jobs.NAME]`.
    pub jobs: BTreeMap<String, Job>,
}

/// One configured job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What every job has.
    pub common: JobOptions,
    /// What its kind needs.
    pub needs: Needs,
    /// The group that is told.
    pub group: String,
    /// How long a problem must be there before it is an alert.
    pub patience: Patience,
    /// What its kind wants for itself of its cluster.
    exclusive: &'static [&'static str],
    /// What its kind has, read by the registry of kinds.
    options: Arc<dyn Any + Send + Sync>,
}

impl Job {
    /// A job from its parts.
    pub fn new(name: String, kind: &Kind, common: JobOptions, options: Arc<dyn Any + Send + Sync>) -> Self {
        let group = common.alert_group.as_ref().map_or_else(|| kind.group.to_owned(), |group| group.0.clone());
        let patience = common.open_after.unwrap_or(Patience::Checks(kind.checks));
        Self { name, common, needs: kind.needs, group, patience, exclusive: kind.exclusive, options }
    }

    /// Which of these clusters it works on.
    fn cluster_among<'a>(&self, clusters: &'a BTreeMap<String, Cluster>) -> Option<(&'a str, &'a Cluster)> {
        match &self.common.cluster {
            Some(ClusterName(name)) => clusters.get_key_value(name.as_str()),
            None if clusters.len() == 1 && self.needs.cluster() => clusters.iter().next(),
            None => None,
        }
        .map(|(name, cluster)| (name.as_str(), cluster))
    }

    /// The family of its kind.
    pub fn family(&self) -> Family {
        Family::of(&self.common.kind)
    }

    /// Whether it is a monitor.
    pub fn is_monitor(&self) -> bool {
        self.family() == Family::Monitor
    }

    /// What happens to its times that passed in vain. A backup that was not taken is worth one that is taken late.
    pub fn catch_up(&self) -> CatchUp {
        self.common.catch_up.unwrap_or(if self.family() == Family::Backup { CatchUp::Once } else { CatchUp::None })
    }

    /// The options of its kind. `None` only where the caller asks for another kind's.
    pub fn options<T: Clone + 'static>(&self) -> Option<T> {
        self.options.downcast_ref().cloned()
    }
}

impl Config {
    /// The name of the installation: its own, or the machine's.
    pub fn instance_name(&self) -> String {
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        self.daemon.instance.clone().or_else(host).unwrap_or_else(|| "localhost".into())
    }

    /// The cluster a job works on: the one it names, or where its kind needs one the only one there is.
    pub fn cluster_of(&self, job: &Job) -> Option<(&str, &Cluster)> {
        job.cluster_among(&self.clusters)
    }

    /// The options of the jobs of one kind that work on a cluster.
    pub fn options_of<T: Clone + 'static>(&self, cluster: &str) -> impl Iterator<Item = T> {
        let here = move |job: &&Job| self.cluster_of(job).is_some_and(|(name, _)| name == cluster);
        self.jobs.values().filter(here).filter_map(Job::options)
    }

    /// The groups of which this job is the only one at work: those it names, or those of its kind in its cluster.
    pub fn exclusive_of(&self, job: &Job) -> Vec<String> {
        let of_kind = || {
            let cluster = self.cluster_of(job).map_or("", |(name, _)| name);
            job.exclusive.iter().map(|what| format!("{cluster}-{what}")).collect()
        };
        job.common.exclusive.clone().unwrap_or_else(of_kind)
    }

    /// Where segments of WAL wait.
    pub fn spool_directory(&self) -> PathBuf {
        self.wal.spool_directory.clone().unwrap_or_else(|| self.daemon.state_directory.join("spool"))
    }

    /// The repositories a cluster's WAL goes to: those it names, or all.
    pub fn wal_repositories(&self, cluster: &str) -> impl Iterator<Item = (&String, &Repository)> {
        let named = self.clusters.get(cluster).map_or(&[][..], |cluster| cluster.wal_repositories.as_slice());
        let wanted = move |name: &str| named.is_empty() || named.iter().any(|wanted| wanted.0 == name);
        self.repositories.iter().filter(move |(name, _)| wanted(name))
    }

    /// The window in which a job does not start at this time, where it is in one: its own, or the daemon's.
    pub fn blackout_of<'a>(&'a self, job: &'a Job, at: DateTime<Utc>) -> Option<&'a Blackout> {
        let local = at.with_timezone(&self.zone_of(job));
        job.common.blackout.iter().chain(&self.daemon.blackout).find(|window| window.covers(&local))
    }

    /// The time zone of a job's schedule.
    pub fn zone_of(&self, job: &Job) -> chrono_tz::Tz {
        job.common.time_zone.unwrap_or(self.daemon.time_zone)
    }
}
