//! Whether the newest backup is in every repository its job names, with the same contents (references 003 and 004: offsite
//! copy present, same size and checksum).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Verdict, View},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::{Needs, RepositoryName},
    finding::{Finding, Severity},
    human, options,
};
use pgbosun_repository::BackupInfo;
use std::{collections::BTreeMap, time::Duration};

options! {
    /// Alerts when a backup is not in all the repositories it should be in, or is not the same there.
    pub struct BackupCopies {
        /// The repositories that should have the same backups; those that backups of the cluster go to by default.
        repositories: Vec<RepositoryName> = "[]";
        /// How long a copy may take to come.
        patience: Duration = "\"6h\"";
    }
}

/// What a copy must share with the original: positions and the manifest, whatever its encoding.
type Likeness = (u64, u64, u64, Option<String>);

/// The newest backup of any repository, and what each has of it.
pub struct Sample {
    label: String,
    finished: DateTime<Utc>,
    copies: BTreeMap<String, Option<Likeness>>,
}

fn likeness(info: &BackupInfo) -> Likeness {
    let manifest = info.object(pgbosun_repository::ObjectKind::Manifest).map(|object| object.sha256.clone());
    (info.start_lsn.0, info.stop_lsn.0, info.bytes, manifest)
}

#[async_trait]
impl Monitor for BackupCopies {
    const FACTS: Facts = Facts {
        every: "35 * * * *",
        group: "database",
        looks: 1,
        needs: Needs::Backups,
        source: "references 003 and 004: offsite copy present, same size and checksum",
        queries: &[],
    };
    type Sample = Option<Sample>;
    type Memory = ();

    async fn sample(&self, look: &mut Look<'_>) -> Result<Self::Sample, JobError> {
        let (cluster, _) = look.context.cluster()?;
        let mut all = BTreeMap::new();
        for repository in look.context.backup_repositories(&self.repositories)? {
            let (backups, _) = repository.backups(Some(cluster)).await?;
            all.insert(repository.name.clone(), backups);
        }
        let newest = all.values().flatten().max_by_key(|info| info.finished_at).cloned();
        Ok(newest.map(|newest| Sample {
            copies: all
                .iter()
                .map(|(name, backups)| {
                    (name.clone(), backups.iter().find(|info| info.label == newest.label).map(likeness))
                })
                .collect(),
            label: newest.label,
            finished: newest.finished_at,
        }))
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), view: &View) -> Verdict {
        let Some(Sample { label, finished, copies }) = sample else { return Verdict::of("no backup") };
        let have = copies.values().flatten().count();
        let mut verdict = Verdict::of(format!("{label} is in {have} of {} repositories", copies.len()));
        let original = copies.values().flatten().next();
        let late = (view.now - *finished).to_std().unwrap_or_default() > self.patience;
        for (repository, copy) in copies {
            let summary = match copy {
                None if late => format!("backup {label} is not in repository {repository}"),
                Some(copy) if Some(copy) != original => {
                    format!("backup {label} is another one in repository {repository}")
                }
                _ => continue,
            };
            verdict.find(
                Finding::new(Severity::Warning, repository, summary)
                    .meaning("If the other place is lost, so is this backup.")
                    .advice(format!(
                        "Bring it over: \"pgbosun backup copy {label} --to {repository}\", or a job of kind replicate."
                    ))
                    .detail(format!("finished: {finished}, {} ago", human::span(view.now - *finished))),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_after_its_time_and_different() {
        let monitor = BackupCopies { repositories: Vec::new(), patience: Duration::from_secs(3600) };
        let look = |minutes: i64, offsite: Option<u64>| {
            let copy = |bytes| (1, 2, bytes, None);
            let copies = BTreeMap::from([("local".into(), Some(copy(9))), ("offsite".into(), offsite.map(copy))]);
            let sample = Some(Sample { label: "b".into(), finished: DateTime::UNIX_EPOCH, copies });
            let view = View { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minutes), ..View::default() };
            monitor.verdict(&sample, &mut (), &view).findings.first().map(|finding| finding.object.clone())
        };
        assert_eq!([look(59, None), look(600, Some(9))], [None, None]);
        assert_eq!([look(61, None).as_deref(), look(1, Some(8)).as_deref()], [Some("offsite"), Some("offsite")]);
    }
}
