//! How large the directory of PostgreSQL's logs is (reference 000, checklist: size of the log directory).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::Finding,
    human,
    metric::Metric,
    options,
};
use std::path::PathBuf;

options! {
    /// Alerts when the log directory of the cluster grows large.
    pub struct LogSize {
        /// Warns above this size.
        warning_size: ByteSize = "\"10GiB\"";
        /// Critical above this size.
        critical_size: ByteSize = "\"50GiB\"";
    }
}

pub struct Sample {
    directory: PathBuf,
    bytes: u64,
    files: u64,
    largest: Vec<(u64, PathBuf)>,
}

#[async_trait]
impl Monitor for LogSize {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "27 * * * *",
        group: "system",
        checks: 1,
        needs: Needs::LogDirectory,
        source: "reference 000, checklist",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let directory = session.log_directory()?;
        super::at("measure the log directory", &directory.clone(), move || {
            let mut largest = Vec::new();
            for entry in std::fs::read_dir(&directory).map_err(super::about(&directory))? {
                // A file may go meanwhile.
                let Some((entry, metadata)) = entry.ok().and_then(|entry| Some((entry.path(), entry.metadata().ok()?)))
                else {
                    continue;
                };
                if metadata.is_file() {
                    largest.push((metadata.len(), entry));
                }
            }
            let (bytes, files) = (largest.iter().map(|(size, _)| size).sum(), largest.len() as u64);
            largest.sort_by(|a, b| b.cmp(a));
            largest.truncate(5);
            Ok(Sample { directory, bytes, files, largest })
        })
        .await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let (told, place) = (human::size(sample.bytes), sample.directory.display().to_string());
        let mut verdict = Verdict::of(format!("{told} in {}", human::count(sample.files, "file")));
        verdict.measure(Metric::new("postgres_log_directory_bytes", sample.bytes as f64));
        let (warning, critical) = (self.warning_size.as_u64() as f64, self.critical_size.as_u64() as f64);
        let severity = baseline.above("logs", sample.bytes as f64, warning, critical);
        let largest =
            sample.largest.iter().map(|(size, path)| [Value::of(human::size(*size)), Value::of(path.display())]);
        verdict.find(
            Finding::new(severity, "logs", format!("logs in {place} take {told}"))
                .meaning("They fill the disk, and what matters is hard to find in them.")
                .advice("See what repeats in the newest file; logrotate, or log_rotation_age with a cleanup, removes old ones.")
                .detail(Detail::new().table(["size", "file"], largest)),
        );
        verdict
    }
}
