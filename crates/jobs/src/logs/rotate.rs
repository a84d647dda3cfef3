//! Log rotation (reference 000: daily at 01:00, compress after 7 days, remove after 90, rotate PostgreSQL's log, file
//! permissions; and the clean-up of temporary files of its daily maintenance).
//!
//! Invariants: a file is compressed under a temporary name, synced and renamed before the original goes, so at every moment one
//! of the two is whole; a file that some process has open is not touched; what logrotate manages is left to it.

mod compress;
mod files;
mod logrotate;

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use compress::compress;
use files::{Act, Entry, Rules, list, open_files};
use logrotate::Managed;
use pgbosun_core::{
    clock,
    config::{self, Cluster, Compression, Config},
    finding::{Finding, Severity},
    human, options,
    outcome::Outcome,
};
use pgbosun_postgres::{Error, Server};
use sqlx::{Connection, PgConnection};
use std::{path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

options! {
    /// Rotates the log of a server that collects its own log, compresses old log files, removes older ones, and takes
    /// away permissions that a log should not have. Files that a process has open and files that logrotate manages are
    /// left alone.
    pub struct LogsRotate {
        /// More directories, in addition to the cluster's `log-directory`.
        directories: Vec<PathBuf> = "[]";
        /// Which files are logs; `*` matches anything.
        files: Vec<String> = "[\"*.log*\", \"*.csv*\", \"*.json*\"]";
        /// First make a server that collects its own log start a new file.
        rotate: bool = "true";
        /// Compress files that have not been written to for this long.
        compress_after: Duration = "\"7d\"";
        /// How to compress: `zstd` or `gzip`.
        compression: Compression = "\"zstd\"";
        /// Remove files that have not been written to for this long.
        remove_after: Duration = "\"90d\"";
        /// The most permissive mode a log file may have, in octal; anything beyond it is taken away.
        mode: String = "\"0640\"";
        /// Leave files alone that logrotate manages.
        respect_logrotate: bool = "true";
        /// Directories of temporary files.
        temporary_directories: Vec<PathBuf> = "[]";
        /// Remove files in those directories that have not been written to for this long.
        temporary_after: Duration = "\"24h\"";
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    compressed: (usize, u64, u64),
    removed: (usize, u64),
    temporary: (usize, u64),
    corrected: usize,
    managed: usize,
    open: usize,
    would: Vec<String>,
    failed: Vec<String>,
}

#[async_trait]
impl Job for LogsRotate {
    fn writes(&self, config: &Config, job: &config::Job) -> Vec<PathBuf> {
        let cluster = config.cluster_of(job).map(|(_, cluster)| cluster);
        self.log_directories(cluster).into_iter().chain(self.temporary_directories.iter().cloned()).collect()
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mode = u32::from_str_radix(&self.mode, 8).map_err(|_| {
            JobError::lasting(format!("mode \"{}\" is not an octal number such as \"0640\"", self.mode))
        })?;
        let (name, server) = context.cluster()?;
        let directories = self.log_directories(context.config.clusters.get(name));
        if directories.is_empty() {
            return Err(JobError::lasting(format!("cluster {name} has no log-directory in the configuration")));
        }
        // A server that is away is no reason to let its logs grow.
        let (rotated, current) = match self.ask(server, context.dry_run).await {
            Ok(answer) => answer,
            Err(error) => (format!("the server's own log was not rotated: {}", human::chain(&error)), Vec::new()),
        };
        let rules = Rules {
            compress: self.compress_after,
            remove: self.remove_after,
            mode,
            compression: self.compression,
            now: clock::now().into(),
        };
        let work = Work {
            directories,
            patterns: self.files.clone(),
            temporary: self.temporary_directories.clone(),
            temporary_after: self.temporary_after,
            rules,
            managed: if self.respect_logrotate { Managed::read() } else { Managed::default() },
            current,
            dry_run: context.dry_run,
            cancel: context.cancel.clone(),
        };
        let done = context.in_bulk(async move { Ok::<_, JobError>(work.all().await) }).await?;
        Ok(outcome(rotated, done, context.dry_run))
    }
}

impl LogsRotate {
    fn log_directories(&self, cluster: Option<&Cluster>) -> Vec<PathBuf> {
        let own = cluster.and_then(|cluster| cluster.log_directory.clone());
        own.into_iter().chain(self.directories.iter().cloned()).collect()
    }

    /// Begins a new log file, where the server collects its own; what is said of that, and the files it writes to.
    async fn ask(&self, server: &Server, dry_run: bool) -> Result<(String, Vec<String>), Error> {
        let mut connection = server.connect().await?;
        let answer = self.asked(&mut connection, dry_run).await;
        let _ = connection.close().await;
        answer
    }

    async fn asked(&self, connection: &mut PgConnection, dry_run: bool) -> Result<(String, Vec<String>), Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Query { what, source }
        };
        let collects: bool = sqlx::query_scalar("select pg_catalog.current_setting('logging_collector')::bool")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("ask how the server logs"))?;
        if !collects {
            return Ok(("the server does not collect its own log".into(), Vec::new()));
        }
        let told = match (self.rotate, dry_run) {
            (false, _) => "the server's own log was not rotated (rotate = false)",
            (true, true) => "would start a new log file",
            (true, false) => {
                sqlx::query("select pg_catalog.pg_rotate_logfile()")
                    .execute(&mut *connection)
                    .await
                    .map_err(failed("start a new log file (grant execute on function pg_rotate_logfile())"))?;
                "started a new log file"
            }
        };
        let current: Vec<Option<String>> = sqlx::query_scalar(include_str!("rotate/current.sql"))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("ask for the current log files"))?;
        let names = current.into_iter().flatten().filter_map(|path| path.rsplit('/').next().map(str::to_owned));
        Ok((told.into(), names.collect()))
    }
}

/// Everything that has to do with files.
struct Work {
    directories: Vec<PathBuf>,
    patterns: Vec<String>,
    temporary: Vec<PathBuf>,
    temporary_after: Duration,
    rules: Rules,
    managed: Managed,
    /// The names of the files the server writes to.
    current: Vec<String>,
    dry_run: bool,
    cancel: CancellationToken,
}

impl Work {
    async fn all(&self) -> Done {
        let mut done = Done::default();
        let open = open_files();
        let logs = self.directories.iter().flat_map(|directory| match list(directory, &self.patterns) {
            Ok(entries) => entries,
            Err(error) => {
                done.failed.push(format!("{}: {error}", directory.display()));
                Vec::new()
            }
        });
        for entry in logs.collect::<Vec<_>>() {
            if self.cancel.is_cancelled() {
                return done;
            }
            if self.managed.manages(&entry.path) {
                done.managed += 1;
            } else if self.current.contains(&entry.name) || open.contains(&entry.identity) {
                // The log that is being written to is open, and of no interest but for its permissions.
                done.open += usize::from(entry.act(&self.rules).is_some());
                self.correct(&entry, &mut done);
            } else {
                self.one(&entry, &mut done).await;
            }
        }
        for directory in &self.temporary {
            let entries = list(directory, &["*".to_owned()]).unwrap_or_else(|error| {
                done.failed.push(format!("{}: {error}", directory.display()));
                Vec::new()
            });
            for entry in entries {
                if entry.age(self.rules.now) >= self.temporary_after && !open.contains(&entry.identity) {
                    self.remove(&entry, &mut done, |done| &mut done.temporary);
                }
            }
        }
        done
    }

    async fn one(&self, entry: &Entry, done: &mut Done) {
        match entry.act(&self.rules) {
            Some(Act::Remove) => self.remove(entry, done, |done| &mut done.removed),
            Some(Act::Compress) if self.dry_run => {
                done.would.push(format!("compress {} ({})", entry.path.display(), human::size(entry.bytes)));
            }
            Some(Act::Compress) => {
                self.correct(entry, done);
                match compress(entry, self.rules.compression, &self.cancel).await {
                    Ok(Some(bytes)) => {
                        tracing::info!("compressed {}", entry.path.display());
                        let (count, before, after) = done.compressed;
                        done.compressed = (count + 1, before + entry.bytes, after + bytes);
                    }
                    Ok(None) => done.open += 1,
                    Err(error) => done.failed.push(format!("compress {}: {error}", entry.path.display())),
                }
            }
            None => self.correct(entry, done),
        }
    }

    fn remove(&self, entry: &Entry, done: &mut Done, counter: impl Fn(&mut Done) -> &mut (usize, u64)) {
        let path = entry.path.display();
        if self.dry_run {
            done.would.push(format!("remove {path} ({})", human::size(entry.bytes)));
            return;
        }
        match std::fs::remove_file(&entry.path) {
            Ok(()) => {
                tracing::info!("removed {path}");
                let counter = counter(done);
                *counter = (counter.0 + 1, counter.1 + entry.bytes);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => done.failed.push(format!("remove {path}: {error}")),
        }
    }

    fn correct(&self, entry: &Entry, done: &mut Done) {
        let Some(mode) = entry.mode_within(self.rules.mode) else { return };
        let path = entry.path.display();
        if self.dry_run {
            done.would.push(format!("chmod {mode:04o} {path}"));
            return;
        }
        match files::set_mode(&entry.path, mode) {
            Ok(()) => done.corrected += 1,
            Err(error) => done.failed.push(format!("chmod {mode:04o} {path}: {error}")),
        }
    }
}

fn outcome(rotated: String, done: Done, dry_run: bool) -> Outcome {
    let mut parts = vec![rotated];
    let mut tell = |count: usize, words: String| {
        if count > 0 {
            parts.push(words);
        }
    };
    let (compressed, before, after) = done.compressed;
    let (before, after) = (human::size(before), human::size(after));
    tell(compressed, format!("{} compressed, {before} to {after}", human::count(compressed, "file")));
    for ((count, bytes), what) in [(done.removed, "file"), (done.temporary, "temporary file")] {
        tell(count, format!("{} removed, {}", human::count(count, what), human::size(bytes)));
    }
    tell(done.corrected, format!("permissions of {} corrected", human::count(done.corrected, "file")));
    tell(done.managed, format!("{} left to logrotate", human::count(done.managed, "file")));
    tell(done.open, format!("{} left alone: open in a process", human::count(done.open, "old file")));
    let mut summary = parts.join("; ");
    if dry_run {
        summary.push_str(&format!("; would do:\n{}", done.would.join("\n")));
    }
    let findings = (!done.failed.is_empty()).then(|| {
        let count = done.failed.len();
        Finding::new(Severity::Warning, "logs", format!("log maintenance: {} failed", human::count(count, "operation")))
            .meaning("Logs keep growing, or more people can read them than should.")
            .advice("Grant the daemon's user the missing permissions, or leave these directories to logrotate.")
            .detail(done.failed.join("\n"))
    });
    Outcome { summary, findings: findings.into_iter().collect(), ..Outcome::default() }
}
