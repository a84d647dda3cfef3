//! How full the file systems are (reference: disk space monitor, warning above 85 %, critical above 95 %).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
    place,
};
use async_trait::async_trait;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use nix::sys::statvfs::statvfs;
use pgbosun_core::{
    config::{Config, Needs},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

options! {
    /// Alerts when a file system fills up: those of data, logs, repositories and state, or the ones named.
    pub struct Disk {
        /// What to watch instead: any path on each file system.
        paths: Vec<PathBuf> = "[]";
        /// Warns above this share of used space, percent, counted as df does.
        warning_percent: u8 = "85";
        /// Critical above this share, percent.
        critical_percent: u8 = "95";
        /// Warns when fewer bytes than this are free, whatever the share.
        minimum_free: ByteSize = "\"5GB\"";
        /// Warns when a file system will be full within this time, at the rate of the last days. `0d` turns this off.
        warning_days: Duration = "\"7d\"";
    }
}

/// One file system.
pub struct FileSystem {
    /// A path on it.
    pub path: PathBuf,
    /// Bytes in use.
    used: u64,
    /// Bytes an ordinary user may still write.
    pub free: u64,
    /// Inodes in use and in all; 0 where the file system has no fixed number.
    inodes: (u64, u64),
}

impl FileSystem {
    /// Those that hold data, logs, repositories and state of this installation, but for those that cannot be checked.
    pub async fn of_installation(config: &Config) -> Vec<Self> {
        Self::list(config, Vec::new()).await.0
    }

    /// Those that hold these paths, or where there are none what this installation needs; and what could not be checked. Each place is
    /// asked by itself, and has seconds to answer.
    async fn list(config: &Config, paths: Vec<PathBuf>) -> (Vec<Self>, Vec<Unseen>) {
        let mut unseen = Vec::new();
        let paths = if paths.is_empty() { watched(config, &mut unseen).await } else { paths };
        let checks = paths.iter().map(|path| {
            let place = path.clone();
            place::at(path, PATIENCE, move || stat(&place))
        });
        let mut systems = BTreeMap::new();
        for (path, looked) in paths.iter().zip(join_all(checks).await) {
            match looked {
                // One entry per file system, under the first of its paths.
                Ok(Ok((device, system))) => drop(systems.entry(device).or_insert(system)),
                Ok(Err(error)) => unseen.push((path.clone(), error.to_string(), false)),
                Err(hung) => unseen.push((path.clone(), hung.to_string(), true)),
            }
        }
        (systems.into_values().collect(), unseen)
    }

    /// The share in use, as df counts it.
    pub fn used_percent(&self) -> f64 {
        100.0 * self.used as f64 / (self.used + self.free).max(1) as f64
    }
}

/// The file systems, and the paths that could not be checked.
pub struct Sample {
    systems: Vec<FileSystem>,
    unseen: Vec<PathBuf>,
}

/// What is remembered of each file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory(BTreeMap<PathBuf, KnownUse>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownUse {
    /// How much it held, one check an hour over three days.
    #[serde(rename = "looks")]
    checks: Vec<(DateTime<Utc>, u64)>,
    /// Which limits it was beyond at the last check: each is left by itself.
    beyond: BTreeMap<String, Severity>,
}

#[async_trait]
impl Monitor for Disk {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "system",
        checks: 1,
        needs: Needs::Host,
        source: "reference 000, disk space monitor: 85 and 95 %; reference 002: free bytes",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let (systems, unseen) = FileSystem::list(&session.context.config, self.paths.clone()).await;
        let hidden = unseen.iter().map(|(path, ..)| path.clone()).collect();
        for (path, reason, hangs) in unseen {
            let path = path.display();
            let advice = match hangs {
                true => "See \"mount\" and \"dmesg\": bring its server or disk back, or unmount it (umount -f -l).",
                false => "Give the daemon's user access, or name the paths to watch (paths).",
            };
            // Under the name under which it is told when it is full: that is not over because nobody can see it.
            session.unseen(&path.to_string(), format!("{path} cannot be checked"), advice, &reason);
        }
        Ok(Sample { systems, unseen: hidden })
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let Sample { systems, unseen } = sample;
        let fullest = systems.iter().max_by(|a, b| a.used_percent().total_cmp(&b.used_percent()));
        let mut verdict = Verdict::of(fullest.map_or_else(
            || "no file system to watch".into(),
            |fullest| {
                let (percent, free) = (fullest.used_percent(), human::size(fullest.free));
                format!("fullest of {}: {} at {percent:.0} %, {free} free", systems.len(), fullest.path.display())
            },
        ));
        memory.0.retain(|path, _| systems.iter().any(|system| system.path == *path) || unseen.contains(path));
        for system in systems {
            let known = memory.0.entry(system.path.clone()).or_default();
            let left = known.left(system, baseline.now);
            let path = system.path.display().to_string();
            verdict.measure(Metric::new("host_filesystem_used_percent", system.used_percent()).of("path", &path));
            verdict.measure(Metric::new("host_filesystem_free_bytes", system.free as f64).of("path", &path));
            if let Some(left) = left {
                verdict.measure(Metric::new("host_filesystem_full_in_seconds", left.as_secs_f64()).of("path", path));
            }
            verdict.find(self.judge(system, left, &mut known.beyond, baseline));
        }
        verdict
    }
}

impl KnownUse {
    /// Keeps what a file system holds now, and returns how long its space lasts at the rate since the oldest look, which must
    /// be a day ago at least.
    fn left(&mut self, system: &FileSystem, now: DateTime<Utc>) -> Option<Duration> {
        let checks = &mut self.checks;
        checks.retain(|(at, _)| now - *at < chrono::Duration::days(3));
        let oldest = checks.first().copied();
        if checks.last().is_none_or(|(at, _)| now - *at >= chrono::Duration::minutes(55)) {
            checks.push((now, system.used));
        }
        let (at, used) = oldest.filter(|(at, _)| now - *at >= chrono::Duration::days(1))?;
        let grown = system.used.checked_sub(used).filter(|grown| *grown > 0)?;
        Duration::try_from_secs_f64(system.free as f64 * (now - at).as_seconds_f64() / grown as f64).ok()
    }
}

impl Disk {
    fn judge(
        &self,
        system: &FileSystem,
        left: Option<Duration>,
        beyond: &mut BTreeMap<String, Severity>,
        baseline: &Baseline,
    ) -> Finding {
        let path = system.path.display().to_string();
        let (percent, free) = (system.used_percent(), human::size(system.free));
        let inode_percent = 100.0 * system.inodes.0 as f64 / system.inodes.1.max(1) as f64;
        let limits = (f64::from(self.warning_percent), f64::from(self.critical_percent));
        let baseline = Baseline { open: std::mem::take(beyond), ..baseline.clone() };
        let by_share = baseline.above("share", percent, limits.0, limits.1);
        let by_inodes = baseline.above("inodes", inode_percent, limits.0, limits.1);
        let by_floor = baseline.below("floor", system.free as f64, self.minimum_free.as_u64() as f64, 0.0);
        let soon = left.map_or(f64::INFINITY, |left| left.as_secs_f64());
        let by_trend = baseline.below("trend", soon, self.warning_days.as_secs_f64(), 0.0);
        let limited = [("share", by_share), ("inodes", by_inodes), ("floor", by_floor), ("trend", by_trend)];
        beyond.extend(limited.map(|(limit, severity)| (limit.to_owned(), severity)));
        beyond.retain(|_, severity| *severity > Severity::Ok);
        let severity = by_share.max(by_inodes).max(by_floor).max(by_trend);
        let limit = if severity == Severity::Critical { self.critical_percent } else { self.warning_percent };
        let what = if by_share == severity {
            format!("is {percent:.0} % full (limit {limit} %)")
        } else if by_inodes == severity {
            format!("is out of inodes: {inode_percent:.0} % used (limit {limit} %)")
        } else if by_floor == severity {
            format!("is nearly full: {free} free (limit {})", human::size(self.minimum_free.as_u64()))
        } else {
            format!(
                "will be full in {} at the rate of the last days; {free} free",
                human::duration(left.unwrap_or_default())
            )
        };
        Finding::new(severity, &path, format!("file system of {path} {what}"))
            .meaning("When it is full, PostgreSQL stops writing, and backups and archiving fail.")
            .advice(
                "Free or add space; \"du -xh --max-depth=2\" shows what is using it. Never delete anything in pg_wal.",
            )
            .detail(
                Detail::new()
                    .fact("path", path)
                    .fact("used", format!("{} ({percent:.1} %)", human::size(system.used)))
                    .fact("free", free),
            )
    }
}

/// What could not be checked, why, and whether it hangs.
type Unseen = (PathBuf, String, bool);

/// How long a file system may take to say how full it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Data, logs, repositories and state of this installation.
async fn watched(config: &Config, unseen: &mut Vec<Unseen>) -> Vec<PathBuf> {
    let clusters = config.clusters.values().flat_map(|cluster| [&cluster.data_directory, &cluster.log_directory]);
    let repositories =
        config.repositories.values().filter_map(|repository| repository.store.directory().map(Path::to_owned));
    // What lies elsewhere: WAL on a disk of its own, tablespaces.
    let mut elsewhere = Vec::new();
    for data in config.clusters.values().filter_map(|cluster| cluster.data_directory.as_ref()) {
        let spaces = data.join("pg_tblspc");
        let place = spaces.clone();
        let read = move || std::fs::read_dir(place).map(|found| found.flatten().map(|space| space.path()).collect());
        let read: Result<io::Result<Vec<PathBuf>>, _> = place::at(&spaces, PATIENCE, read).await;
        match read {
            Ok(Ok(found)) => elsewhere.extend(found.into_iter().chain([data.join("pg_wal")])),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => unseen.push((spaces, error.to_string(), false)),
            // So does the data directory, which is told.
            Err(_) => {}
        }
    }
    clusters
        .flatten()
        .cloned()
        .chain(elsewhere)
        .chain(repositories)
        .chain([config.daemon.state_directory.clone()])
        .collect()
}

/// The file system of a path, with its device. A repository that is not there yet counts where it will be.
fn stat(path: &Path) -> io::Result<(u64, FileSystem)> {
    path.try_exists()?;
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let device = there.metadata().map_err(super::about(there))?.dev();
    let stat = statvfs(there).map_err(io::Error::from).map_err(super::about(there))?;
    let unit = stat.fragment_size();
    let system = FileSystem {
        path: there.to_owned(),
        used: (stat.blocks() - stat.blocks_free()) * unit,
        free: stat.blocks_available() * unit,
        inodes: (stat.files() - stat.files_free(), stat.files()),
    };
    Ok((device, system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor() -> Disk {
        let (minimum_free, warning_days) = (ByteSize::gb(5), Duration::from_secs(7 * 86_400));
        Disk { paths: Vec::new(), warning_percent: 85, critical_percent: 95, minimum_free, warning_days }
    }

    fn check(memory: &mut Memory, day: i64, used: u64, free: u64) -> Option<(Severity, String)> {
        let system = FileSystem { path: "/data".into(), used: used << 30, free: free << 30, inodes: (0, 0) };
        let baseline = Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::days(day), ..Baseline::default() };
        let findings =
            monitor().verdict(&Sample { systems: vec![system], unseen: Vec::new() }, memory, &baseline).findings;
        findings.into_iter().map(|finding| (finding.severity, finding.summary)).next()
    }

    #[test]
    fn what_earlier_versions_remembered_is_still_known() {
        let kept = r#"{"/": {"looks": [["2026-11-29T00:00:00Z", 7]], "beyond": {"full": "warning"}}}"#;
        let Memory(known) = serde_json::from_str(kept).unwrap();
        assert_eq!((known[Path::new("/")].checks[0].1, known[Path::new("/")].beyond.len()), (7, 1));
    }

    #[test]
    fn limits_are_those_of_the_reference() {
        let judge = |used, free| check(&mut Memory::default(), 0, used, free);
        assert_eq!(judge(85, 15), None);
        assert_eq!(judge(86, 14), Some((Severity::Warning, "file system of /data is 86 % full (limit 85 %)".into())));
        assert_eq!(judge(95, 5).unwrap().0, Severity::Warning);
        assert_eq!(judge(96, 4).unwrap().0, Severity::Critical);
        assert_eq!(
            judge(12, 4),
            Some((Severity::Warning, "file system of /data is nearly full: 4.0 GiB free (limit 4.7 GiB)".into()))
        );
    }

    #[test]
    fn the_trend_of_days_tells_when_it_is_full() {
        let mut memory = Memory::default();
        assert_eq!(check(&mut memory, 0, 50, 50), None);
        assert_eq!(check(&mut memory, 1, 54, 46), None, "eleven days are left");
        let told = check(&mut memory, 2, 64, 36).unwrap().1;
        assert_eq!(told, "file system of /data will be full in 5 d 3 h at the rate of the last days; 36.0 GiB free");
        assert_eq!(check(&mut memory, 4, 40, 60), None, "it was emptied");
    }
}
