//! Temporary files that nobody will remove (reference 000: older than 24 hours; removed only if the process in the name is
//! none of the server's).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::{
    collections::BTreeSet,
    fs::DirEntry,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

options! {
    /// Reports temporary files that are left over: those of PostgreSQL (`pgsql_tmp`) whose process no longer belongs to the
    /// server, and old files in the directories named here. It removes those of PostgreSQL, unless `remove` is off, and reports
    /// what it removed.
    pub struct TemporaryFiles {
        /// Files older than this count.
        age: Duration = "\"24h\"";
        /// Remove those that PostgreSQL left behind, and report it.
        remove: bool = "true";
        /// More directories in which old files are reported, but never removed.
        directories: Vec<PathBuf> = "[]";
    }
}

/// A file that is left over.
pub struct Leftover {
    path: PathBuf,
    bytes: u64,
    /// Whether it was one of PostgreSQL's and is gone now, or why it is not.
    removed: Option<Result<(), String>>,
}

#[derive(sqlx::FromRow)]
struct Backend {
    pid: i32,
}

#[async_trait]
impl Monitor for TemporaryFiles {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "43 * * * *",
        group: "system",
        checks: 1,
        needs: Needs::DataDirectory,
        source: "reference 000, temporary files monitor: 24 hours",
        queries: &[Query { what: "list the server's processes", sql: include_str!("temporary_files.sql") }],
    };
    type Sample = Vec<Leftover>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let data = session.data_directory()?;
        // The processes first: whoever writes a file later is not among what is old.
        let backends: Vec<Backend> = session.rows(&Self::FACTS.queries[0]).await?;
        let alive: BTreeSet<i32> = backends.into_iter().map(|backend| backend.pid).collect();
        let (age, remove, others) = (self.age, self.remove && !session.context.dry_run, self.directories.clone());
        super::at("look for temporary files", &data.clone(), move || {
            let mut found = Vec::new();
            for directory in own_directories(&data)? {
                for (path, bytes) in old(&directory, age)? {
                    if owner(&path).is_some_and(|pid| !alive.contains(&pid)) {
                        let removed = remove.then(|| delete(&path));
                        found.push(Leftover { path, bytes, removed });
                    }
                }
            }
            for directory in others {
                found.extend(old(&directory, age)?.into_iter().map(|(path, bytes)| Leftover {
                    path,
                    bytes,
                    removed: None,
                }));
            }
            Ok(found)
        })
        .await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let (gone, stay): (Vec<_>, Vec<_>) = sample.iter().partition(|one| matches!(one.removed, Some(Ok(()))));
        let bytes = |files: &[&Leftover]| files.iter().map(|one| one.bytes).sum::<u64>();
        let left = bytes(&stay);
        let mut verdict = Verdict::of(format!(
            "{} removed ({}), {} kept ({})",
            human::count(gone.len(), "leftover file"),
            human::size(bytes(&gone)),
            stay.len(),
            human::size(left)
        ));
        verdict.measure(Metric::new("host_temporary_files_left_bytes", left as f64));
        let mut tell = |object: &str, files: &[&Leftover], what: &str, meaning: &str, advice: &str| {
            if !files.is_empty() {
                let lines: Vec<_> = files.iter().take(20).map(|one| one.line()).collect();
                let told = human::count(files.len(), "temporary file");
                let summary = format!("{told} {what} ({})", human::size(bytes(files)));
                let finding = Finding::new(Severity::Warning, object, summary).meaning(meaning);
                verdict.find(finding.advice(advice).detail(lines.join("\n")));
            }
        };
        tell(
            "files",
            &stay,
            "left over",
            "They take up space that nothing gives back.",
            "Find out whose they are and remove them; with remove = true, those in pgsql_tmp of the data directory are removed automatically.",
        );
        tell(
            "removed",
            &gone,
            "left behind by processes that are gone, and removed",
            "A process of the server died while it sorted, hashed or built an index on disk. The space is free again.",
            "The server's log says why it died; there is nothing else to do.",
        );
        verdict
    }
}

impl Leftover {
    fn line(&self) -> String {
        let why = match &self.removed {
            Some(Err(reason)) => format!(" ({reason})"),
            _ => String::new(),
        };
        format!("{}  {}{why}", human::size(self.bytes), self.path.display())
    }
}

/// Where PostgreSQL writes temporary files: in the default tablespace and in each other one.
fn own_directories(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = vec![data.join("base")];
    for space in entries(&data.join("pg_tblspc"))? {
        let versions = entries(&space.path())?.into_iter();
        let versions = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("PG_"));
        directories.extend(versions.map(|entry| entry.path()));
    }
    Ok(directories.into_iter().map(|path| path.join("pgsql_tmp")).collect())
}

/// What is in a directory; one that is not there has nothing.
fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(super::about(directory)(error)),
    }
}

/// Files and directories that nobody wrote to for so long, with what they hold.
fn old(directory: &Path, age: Duration) -> io::Result<Vec<(PathBuf, u64)>> {
    let old = entries(directory)?.into_iter().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let idle = metadata.modified().ok()?.elapsed().unwrap_or_default();
        let bytes = if metadata.is_dir() { held(&entry.path()) } else { metadata.len() };
        (idle > age).then(|| (entry.path(), bytes))
    });
    Ok(old.collect())
}

fn held(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// The process that a temporary file of PostgreSQL is named after: `pgsql_tmp4711.0`, `pgsql_tmp4711.0.fileset`.
fn owner(path: &Path) -> Option<i32> {
    path.file_name()?.to_str()?.strip_prefix("pgsql_tmp")?.split('.').next()?.parse().ok()
}

fn delete(path: &Path) -> Result<(), String> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_in_the_name() {
        assert_eq!(owner(Path::new("/d/pgsql_tmp4711.0")), Some(4711));
        assert_eq!(owner(Path::new("/d/pgsql_tmp4711.2.fileset")), Some(4711));
        assert_eq!(owner(Path::new("/d/other4711.0")), None);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("pgsql_tmp1.0"), "abc").unwrap();
        assert!(old(directory.path(), Duration::from_secs(60)).unwrap().is_empty());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(old(directory.path(), Duration::from_millis(1)).unwrap()[0].1, 3);
    }
}
