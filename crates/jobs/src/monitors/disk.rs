//! How full the file systems are (reference: disk space monitor, warning above 85 %, critical above 95 %).

use super::Monitor;
use crate::{JobContext, JobError};
use async_trait::async_trait;
use bytesize::ByteSize;
use nix::sys::statvfs::statvfs;
use pgbosun_core::{
    config::RepositoryType,
    finding::{Finding, Severity},
    human, options,
};
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

options! {
    /// Alerts when a file system fills: those of data, logs, repositories and state, or the ones named.
    pub struct Disk {
        /// What to watch instead: any path on the file system.
        paths: Vec<PathBuf> = "[]";
        /// Warns above this share of used space, percent, counted as df does.
        warning_percent: u8 = "85";
        /// Critical above this share, percent.
        critical_percent: u8 = "95";
        /// Warns below so many free bytes, whatever the share.
        minimum_free: ByteSize = "\"5GB\"";
    }
}

/// A file system that hangs (a dead NFS server) must not hold the monitor for ever.
const LIMIT: Duration = Duration::from_secs(20);

/// One file system.
pub struct FileSystem {
    path: PathBuf,
    /// Bytes in use.
    used: u64,
    /// Bytes an ordinary user may still write.
    free: u64,
    /// Inodes in use and in all; 0 where the file system has no fixed number.
    inodes: (u64, u64),
}

impl FileSystem {
    fn used_percent(&self) -> f64 {
        100.0 * self.used as f64 / (self.used + self.free).max(1) as f64
    }
}

#[async_trait]
impl Monitor for Disk {
    type Sample = Vec<FileSystem>;

    async fn sample(&self, context: &JobContext) -> Result<Self::Sample, JobError> {
        let paths = if self.paths.is_empty() { watched(context) } else { self.paths.clone() };
        let look = tokio::task::spawn_blocking(move || look(&paths));
        match tokio::time::timeout(LIMIT, look).await {
            Ok(Ok(looked)) => looked.map_err(JobError::lasting),
            Ok(Err(error)) => Err(JobError::lasting(format!("cannot look at the file systems: {error}"))),
            Err(_) => Err(JobError::lasting(format!("a file system did not answer within {}", human::duration(LIMIT)))),
        }
    }

    fn verdict(&self, sample: &Self::Sample) -> (String, Vec<Finding>) {
        let findings = sample.iter().filter_map(|system| self.judge(system)).collect();
        let fullest = sample.iter().max_by(|a, b| a.used_percent().total_cmp(&b.used_percent()));
        let summary = fullest.map_or_else(
            || "no file system to watch".into(),
            |fullest| {
                let (percent, free) = (fullest.used_percent(), human::size(fullest.free));
                format!("fullest of {}: {} at {percent:.0} %, {free} free", sample.len(), fullest.path.display())
            },
        );
        (summary, findings)
    }
}

impl Disk {
    fn judge(&self, system: &FileSystem) -> Option<Finding> {
        let (percent, free) = (system.used_percent(), human::size(system.free));
        let inode_percent = 100.0 * system.inodes.0 as f64 / system.inodes.1.max(1) as f64;
        let (severity, what) = if percent > f64::from(self.critical_percent) {
            (Severity::Critical, format!("{percent:.0} % full (limit {} %)", self.critical_percent))
        } else if inode_percent > f64::from(self.critical_percent) {
            (
                Severity::Critical,
                format!("out of inodes: {inode_percent:.0} % used (limit {} %)", self.critical_percent),
            )
        } else if percent > f64::from(self.warning_percent) {
            (Severity::Warning, format!("{percent:.0} % full (limit {} %)", self.warning_percent))
        } else if system.free < self.minimum_free.as_u64() {
            let floor = human::size(self.minimum_free.as_u64());
            (Severity::Warning, format!("nearly full: {free} free (limit {floor})"))
        } else {
            return None;
        };
        let path = system.path.display().to_string();
        Some(Finding {
            severity,
            summary: format!("file system of {path} is {what}"),
            meaning: "When it is full, PostgreSQL stops writing, and backups and archiving fail.".into(),
            advice: "Free or add space; \"du -xh --max-depth=2\" shows what takes it. Never delete anything in pg_wal."
                .into(),
            detail: format!("path: {path}\nused: {} ({percent:.1} %)\nfree: {free}", human::size(system.used)),
            object: path,
        })
    }
}

/// Data, logs, repositories and state of this installation.
fn watched(context: &JobContext) -> Vec<PathBuf> {
    let config = &context.config;
    let clusters = config.clusters.values().flat_map(|cluster| [&cluster.data_directory, &cluster.log_directory]);
    let repositories = config.repositories.values().filter(|place| place.r#type == RepositoryType::Local);
    let repositories = repositories.filter_map(|repository| repository.path.clone());
    clusters.flatten().cloned().chain(repositories).chain([config.daemon.state_directory.clone()]).collect()
}

/// One entry per file system, under the first of its paths. A repository that is not there yet counts where it will be.
fn look(paths: &[PathBuf]) -> Result<Vec<FileSystem>, String> {
    let mut systems = BTreeMap::new();
    for path in paths {
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let failed = |error: &dyn std::fmt::Display| format!("cannot look at {}: {error}", there.display());
        let device = there.metadata().map_err(|error| failed(&error))?.dev();
        if systems.contains_key(&device) {
            continue;
        }
        let stat = statvfs(there).map_err(|error| failed(&error))?;
        let unit = stat.fragment_size();
        systems.insert(
            device,
            FileSystem {
                path: there.to_owned(),
                used: (stat.blocks() - stat.blocks_free()) * unit,
                free: stat.blocks_available() * unit,
                inodes: (stat.files() - stat.files_free(), stat.files()),
            },
        );
    }
    Ok(systems.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(used: u64, free: u64) -> Option<(Severity, String)> {
        let monitor =
            Disk { paths: Vec::new(), warning_percent: 85, critical_percent: 95, minimum_free: ByteSize::gb(5) };
        let system = FileSystem { path: "/data".into(), used: used << 30, free: free << 30, inodes: (0, 0) };
        monitor.judge(&system).map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn limits_are_those_of_the_reference() {
        assert_eq!(judge(85, 15), None);
        assert_eq!(judge(86, 14), Some((Severity::Warning, "file system of /data is 86 % full (limit 85 %)".into())));
        assert_eq!(judge(95, 5).unwrap().0, Severity::Warning);
        assert_eq!(judge(96, 4).unwrap().0, Severity::Critical);
        assert_eq!(
            judge(12, 4),
            Some((Severity::Warning, "file system of /data is nearly full: 4.0 GiB free (limit 4.7 GiB)".into()))
        );
    }
}
