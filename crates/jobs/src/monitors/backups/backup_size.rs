//! Whether the newest backup is as large as backups of this cluster are (references 002: a floor of 100 KB; 003 and 004: a
//! change of more than 30 % against the recent ones).

use crate::{
    JobError,
    monitors::{
        Baseline, Monitor, MonitorFacts, MonitorSession, Verdict,
        backups::{InEach, each, in_each, not_seen, which},
    },
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    config::{Needs, RepositoryName},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};

options! {
    /// Alerts when the newest full backup is suspiciously small, or differs a lot in size from those before it.
    pub struct BackupSize {
        /// The repositories to check; by default those that the cluster's backups go to.
        repositories: Vec<RepositoryName> = "[]";
        /// Critical when its stored size is below this.
        minimum: ByteSize = "\"100KB\"";
        /// Warns when it differs from the median of the ten before it by more than this, percent.
        change_percent: f64 = "30.0";
    }
}

#[async_trait]
impl Monitor for BackupSize {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "reference 002: 100 KB; references 003 and 004: 30 %",
        queries: &[],
    };
    /// The full backups, newest first: label and bytes as stored.
    type Sample = InEach<Vec<(String, u64)>>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let all = in_each(session, &self.repositories).await?;
        Ok(each(all, |catalogue| {
            let full = catalogue.infos().rev().filter(|info| !info.is_incremental()).take(11);
            full.map(|info| (info.label.clone(), info.stored_bytes)).collect()
        }))
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let mut verdict = Verdict::default();
        let mut told = Vec::new();
        for (repository, sizes) in sample {
            let sizes = match sizes {
                Ok(sizes) => sizes,
                Err(reason) => {
                    told.push(format!("{repository}: unknown"));
                    verdict.find(not_seen(repository, "the size of backups", reason));
                    continue;
                }
            };
            let Some(((label, size), before)) = sizes.split_first() else {
                told.push(format!("{repository}: no backup"));
                continue;
            };
            let stored = human::size(*size);
            told.push(format!("{repository}: {stored}"));
            verdict.measure(Metric::new("postgres_backup_size_bytes", *size as f64).of("repository", repository));
            let finding = |severity, summary| {
                Finding::new(severity, repository, which(sample.len() > 1, repository, summary))
                    .meaning("It may not contain all that it should.")
                    .advice("Compare it with the one before (\"pgbosun backup show\"), and run a restore test to see whether it restores.")
                    .detail(Detail::new().fact("repository", repository).fact("newest", label))
            };
            if *size < self.minimum.as_u64() {
                let limit = human::size(self.minimum.as_u64());
                verdict.find(finding(Severity::Critical, format!("backup {label} is only {stored} (limit {limit})")));
            } else if let Some(median) = median(before) {
                let change = 100.0 * (*size as f64 - median as f64) / median.max(1) as f64;
                let severity = baseline.above(repository, change.abs(), self.change_percent, f64::INFINITY);
                let usual = human::size(median);
                verdict.find(finding(
                    severity,
                    format!("backup {label} is {stored}, {change:+.0} % compared with the usual {usual}"),
                ));
            }
        }
        verdict.summary = told.join("; ");
        verdict
    }
}

/// The median of what came before; of fewer than three nothing is usual.
fn median(before: &[(String, u64)]) -> Option<u64> {
    let mut sizes: Vec<_> = before.iter().map(|(_, size)| *size).collect();
    sizes.sort_unstable();
    (sizes.len() >= 3).then(|| sizes[sizes.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_and_unusual() {
        let monitor = BackupSize { repositories: Vec::new(), minimum: ByteSize::kb(100), change_percent: 30.0 };
        let check = |sizes: &[u64]| {
            let sizes = sizes.iter().map(|size| ("label".to_owned(), *size)).collect();
            let sample = vec![("local".into(), Ok(sizes))];
            monitor.verdict(&sample, &mut (), &Baseline::default()).findings.first().map(|finding| finding.severity)
        };
        assert_eq!(check(&[1_000_000, 900_000, 1_100_000, 1_000_000]), None);
        assert_eq!(check(&[600_000, 900_000, 1_100_000, 1_000_000]), Some(Severity::Warning));
        assert_eq!(check(&[1_400_000, 900_000, 1_100_000, 1_000_000]), Some(Severity::Warning));
        assert_eq!(check(&[99_000]), Some(Severity::Critical));
        assert_eq!(check(&[600_000, 1_000_000]), None, "one is not usual");
        assert_eq!(check(&[]), None);
    }
}
