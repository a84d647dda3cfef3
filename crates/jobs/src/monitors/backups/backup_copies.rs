//! Whether the newest backup is in every repository its job names, with the same contents (references 003 and 004: offsite
//! copy present, same size and checksum): what the catalogues say is compared, and that its objects, and those of the backups
//! it builds upon, are stored there in the sizes they should have. `verify` reads them.

use crate::{
    JobError,
    monitors::{
        Facts, Look, Monitor, Verdict, View,
        backups::{InEach, in_each, not_seen},
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::{Needs, RepositoryName},
    finding::{Finding, Severity},
    human, options,
};
use pgbosun_repository::{BackupInfo, Error, ObjectKind, Repository};
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

/// Faults shown of one repository.
const SHOWN: usize = 20;

/// What a copy must share with the original: positions and the manifest, whatever its encoding.
type Likeness = (u64, u64, u64, Option<String>);

/// What one repository has of the newest backup.
#[derive(Clone, Debug)]
struct Copy {
    likeness: Likeness,
    /// What is not stored as it should be, of it or of one it builds upon.
    faults: Vec<String>,
}

/// The newest backup of any repository, and what each has of it.
pub struct Sample {
    label: String,
    finished: DateTime<Utc>,
    copies: InEach<Option<Copy>>,
}

fn likeness(info: &BackupInfo) -> Likeness {
    let manifest = info.object(ObjectKind::Manifest).map(|object| object.sha256.clone());
    (info.start_lsn.0, info.stop_lsn.0, info.bytes, manifest)
}

/// What there is of a backup and those it builds upon; nothing is read but their catalogues.
async fn copy(repository: &Repository, backups: &[BackupInfo], label: &str) -> Result<Option<Copy>, Error> {
    let Some(info) = backups.iter().find(|info| info.label == label) else { return Ok(None) };
    let mut faults = Vec::new();
    let mut next = Some(label);
    while let Some(label) = next {
        let Some(info) = backups.iter().find(|info| info.label == label) else {
            faults.push(format!("backup {label}, which it builds upon, is not there"));
            break;
        };
        let place = info.place();
        let stored: BTreeMap<_, _> = repository.storage.list(&place.prefix()).await?.into_iter().collect();
        for object in &info.objects {
            let key = place.key(&object.name);
            match stored.get(&key) {
                None => faults.push(format!("{key} is not there")),
                Some(size) if *size != object.size => {
                    faults.push(format!("{key} has {size} bytes instead of {}", object.size));
                }
                Some(_) => {}
            }
        }
        next = info.parent.as_deref();
    }
    Ok(Some(Copy { likeness: likeness(info), faults }))
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
        let all = in_each(look, &self.repositories).await?;
        let newest = all.iter().filter_map(|(_, backups)| backups.as_ref().ok()).flatten();
        let Some(newest) = newest.max_by_key(|info| info.finished_at) else { return Ok(None) };
        let mut copies = InEach::new();
        for (repository, backups) in &all {
            let copy = match backups {
                Ok(backups) => copy(repository, backups, &newest.label).await.map_err(|error| human::chain(&error)),
                Err(reason) => Err(reason.clone()),
            };
            copies.push((repository.name.clone(), copy));
        }
        Ok(Some(Sample { copies, label: newest.label.clone(), finished: newest.finished_at }))
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), view: &View) -> Verdict {
        let Some(Sample { label, finished, copies }) = sample else { return Verdict::of("no backup") };
        let there = || copies.iter().filter_map(|(_, copy)| copy.as_ref().ok()?.as_ref());
        let mut verdict = Verdict::of(format!("{label} is in {} of {} repositories", there().count(), copies.len()));
        let original = there().next().map(|copy| &copy.likeness);
        let late = (view.now - *finished).to_std().unwrap_or_default() > self.patience;
        for (repository, copy) in copies {
            let mut detail = vec![format!("finished: {finished}, {} ago", human::span(view.now - *finished))];
            let summary = match copy {
                Err(reason) => {
                    verdict.find(not_seen(repository, "whether the newest backup is there", reason));
                    continue;
                }
                Ok(None) if late => format!("backup {label} is not in repository {repository}"),
                Ok(Some(copy)) if Some(&copy.likeness) != original => {
                    format!("backup {label} is another one in repository {repository}")
                }
                Ok(Some(Copy { faults, .. })) if !faults.is_empty() => {
                    detail.extend(faults.iter().take(SHOWN).cloned());
                    format!(
                        "backup {label} is not whole in repository {repository}: {}",
                        human::count(faults.len(), "fault")
                    )
                }
                Ok(_) => continue,
            };
            verdict.find(
                Finding::new(Severity::Warning, repository, summary)
                    .meaning("If the other place is lost, so is this backup.")
                    .advice(format!(
                        "Bring it over: \"pgbosun backup copy {label} --to {repository}\", or a job of kind replicate."
                    ))
                    .detail(detail.join("\n")),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_after_its_time_different_and_not_whole() {
        let monitor = BackupCopies { repositories: Vec::new(), patience: Duration::from_secs(3600) };
        let copy = |bytes, faults: &[&str]| {
            let faults = faults.iter().map(|&fault| fault.to_owned()).collect();
            Some(Copy { likeness: (1, 2, bytes, None), faults })
        };
        let look = |minutes: i64, offsite: Result<Option<Copy>, String>| {
            let copies = vec![("local".into(), Ok(copy(9, &[]))), ("offsite".into(), offsite)];
            let sample = Some(Sample { label: "b".into(), finished: DateTime::UNIX_EPOCH, copies });
            let view = View { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minutes), ..View::default() };
            let found = monitor.verdict(&sample, &mut (), &view).findings.into_iter().next();
            found.map(|finding| (finding.object, finding.summary))
        };
        assert_eq!([look(59, Ok(None)), look(600, Ok(copy(9, &[])))], [None, None]);
        let told = |found: Option<(String, String)>, words: &str| {
            let (object, summary) = found.unwrap();
            assert!(object == "offsite" && summary.contains(words), "{object}: {summary}");
        };
        told(look(61, Ok(None)), "is not in repository offsite");
        told(look(1, Ok(copy(8, &[]))), "is another one");
        told(look(1, Ok(copy(9, &["base is not there"]))), "is not whole in repository offsite: 1 fault");
        told(look(1, Err("away".into())), "cannot be said");
    }
}
