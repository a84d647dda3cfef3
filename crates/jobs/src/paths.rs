//! The paths of a configuration: those that it names, and those at which the daemon writes. What the unit must show and let it write
//! follows from both.
//!
//! Invariant: a kind of job that writes outside the state directory says where ([`crate::Job::writes`]); nothing else knows kinds here.

use pgbosun_core::{
    config::{Config, Effective, MailTransport},
    unit,
};
use pgbosun_postgres::Conninfo;
use std::path::{Path, PathBuf};

/// A path and the option that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Section and key, such as `repositories.local.path`.
    pub option: String,
    /// The path.
    pub path: PathBuf,
}

impl Named {
    fn new(option: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { option: option.into(), path: path.into() }
    }
}

/// The paths that others share with the daemon and that the configuration names: whole strings, alone or in a list, and the
/// sockets of connection strings.
pub fn named(effective: &[Effective]) -> Vec<Named> {
    effective.iter().flat_map(of_option).collect()
}

fn of_option(entry: &Effective) -> Vec<Named> {
    // What is ours alone may lie anywhere; statements and arguments are for others.
    if ["scratch-directory", "arguments", "statement", "query", "queries"].contains(&entry.key.as_str()) {
        return Vec::new();
    }
    let strings = entry.value.split('"').skip(1).step_by(2);
    let paths: Vec<PathBuf> = match entry.key.as_str() {
        "connection" => {
            let parsed = strings.filter_map(|text| Conninfo::parse(text).ok());
            parsed.flat_map(|conninfo| conninfo.hosts).filter_map(|host| host.socket()).collect()
        }
        _ => strings.map(PathBuf::from).filter(|path| path.is_absolute()).collect(),
    };
    paths.into_iter().map(|path| Named::new(format!("{}.{}", entry.section, entry.key), path)).collect()
}

/// The directories in which the daemon creates, changes or removes files.
pub fn written(config: &Config) -> Vec<Named> {
    let mut written = vec![Named::new("daemon.state-directory", &config.daemon.state_directory)];
    written
        .extend(config.daemon.control_socket.parent().map(|directory| Named::new("daemon.control-socket", directory)));
    written.push(Named::new("wal.spool-directory", config.spool_directory()));
    let mail = config.mail.iter().filter(|mail| mail.transport == MailTransport::Folder);
    written.extend(mail.filter_map(|mail| Some(Named::new("mail.folder", mail.folder.as_ref()?))));
    written.extend(config.repositories.iter().filter_map(|(name, repository)| {
        Some(Named::new(format!("repositories.{name}.path"), repository.store.directory()?))
    }));
    for job in config.jobs.values().filter(|job| job.common.enabled) {
        let places = crate::build(job).map(|kind| kind.writes(config, job)).unwrap_or_default();
        written.extend(places.into_iter().map(|path| Named::new(format!("jobs.{}", job.name), path)));
    }
    written
}

/// What the unit hides of the paths that the configuration names, and what it does not let the daemon write: a line for each, with what
/// to do about it.
pub fn kept_away(config: &Config, effective: &[Effective]) -> Vec<String> {
    let told = |named: Vec<Named>, what: &str, keeps: fn(&Path) -> Option<&'static str>| {
        let lines = named.into_iter().filter_map(move |Named { option, path }| {
            Some(format!("{option}: {} {what}: {}", path.display(), keeps(&path)?))
        });
        lines.collect::<Vec<_>>()
    };
    let mut lines = told(named(effective), "is hidden", unit::keeps_away);
    lines.extend(told(written(config), "cannot be written", unit::forbids_writing));
    lines
}
