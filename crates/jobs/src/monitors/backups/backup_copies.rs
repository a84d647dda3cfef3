//! Whether the newest backup of each job is in every repository that job names, or a job copies it to, with the same contents
//! (references 003 and 004: offsite copy present, same size and checksum): what the catalogues say is compared, and that its
//! objects, and those of the backups it builds upon, are stored there in the sizes they should have. `verify` reads them.

use crate::{
    JobError,
    backups::{BackupPhysical, Replicate},
    monitors::{
        Baseline, Monitor, MonitorFacts, MonitorSession, Verdict,
        backups::{InEach, in_each, not_seen},
    },
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_backup::Catalogue;
use pgbosun_core::{
    config::{Needs, RepositoryName},
    detail::Detail,
    finding::{Finding, Severity},
    human, options,
};
use pgbosun_repository::{BackupInfo, BackupRef, Error, ObjectKind, Repository, sort_backups};
use std::{collections::BTreeMap, time::Duration};

options! {
    /// Alerts when the newest backup of a job is not in all the repositories it should be in, or differs in one of them, or is
    /// damaged or incomplete there.
    pub struct BackupCopies {
        /// The repositories that should have the same backups, whichever job took them; by default those that the backup's job
        /// names, and those that jobs of kind `replicate` copy them to.
        repositories: Vec<RepositoryName> = "[]";
        /// How long a copy may take to arrive.
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

/// The newest backup of a job, and what each repository has of it that should have it.
pub struct Sample {
    label: String,
    finished: DateTime<Utc>,
    copies: InEach<Option<Copy>>,
}

fn likeness(info: &BackupInfo) -> Likeness {
    let manifest = info.object(ObjectKind::Manifest).map(|object| object.sha256.clone());
    (info.start_lsn.0, info.stop_lsn.0, info.bytes, manifest)
}

/// What there is of a backup and those it builds on; nothing is read but their catalogues and notes.
async fn copy(repository: &Repository, catalogue: &Catalogue, place: &BackupRef) -> Result<Option<Copy>, Error> {
    let Some(entry) = catalogue.find(place) else { return Ok(None) };
    let mut faults = Vec::new();
    if !entry.health().is_good() {
        faults.push(entry.health().to_string());
    }
    for info in catalogue.chain(entry).links {
        let lost = repository.lost_objects(info).await?;
        faults.extend(lost.values().map(|words| format!("{}: {words}", info.label)));
    }
    Ok(Some(Copy { likeness: likeness(&entry.info), faults }))
}

/// The repositories that have a backup.
fn lying(all: &[(Repository, Result<Catalogue, String>)], place: &BackupRef) -> Vec<RepositoryName> {
    let found = all.iter().filter(|(_, there)| there.as_ref().is_ok_and(|there| there.find(place).is_some()));
    found.map(|(repository, _)| RepositoryName(repository.name.clone())).collect()
}

/// These repositories and those that what lies there is copied to; a copy may be copied on. No name stands for all.
fn with_copies(mut names: Vec<RepositoryName>, copied: &[Replicate]) -> Vec<RepositoryName> {
    while let Some(next) = copied.iter().find(|job| names.contains(&job.from) && !names.contains(&job.to)) {
        names.push(next.to.clone());
    }
    names
}

#[async_trait]
impl Monitor for BackupCopies {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "35 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "references 003 and 004: offsite copy present, same size and checksum",
        queries: &[],
    };
    type Sample = Vec<Sample>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let all = in_each(session, &self.repositories).await?;
        let (cluster, _) = session.context.cluster()?;
        let config = &session.context.config;
        let mut newest: BTreeMap<&str, &BackupInfo> = BTreeMap::new();
        let known = |job: &str| config.jobs.get(job).is_some_and(|job| job.options::<BackupPhysical>().is_some());
        let there = all.iter().filter_map(|(_, there)| there.as_ref().ok());
        let mut infos: Vec<&BackupInfo> = there.flat_map(Catalogue::infos).collect();
        // C33: the one order, over all repositories.
        sort_backups(&mut infos, |info| info, session.context.baseline.now);
        for info in infos {
            // Of what no job of today took, the newest counts too.
            newest.insert(info.job.as_deref().filter(|job| known(job)).unwrap_or_default(), info);
        }
        let copied: Vec<Replicate> = config.options_of(cluster).collect();
        let mut sample = Vec::new();
        for (job, newest) in newest {
            let named = config.jobs.get(job).and_then(|job| job.options::<BackupPhysical>());
            let wanted = match named.map(|job| job.repositories) {
                _ if !self.repositories.is_empty() => self.repositories.clone(),
                Some(named) => with_copies(named, &copied),
                None => with_copies(lying(&all, &newest.place()), &copied),
            };
            let mut copies = InEach::new();
            let here = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted.0 == name);
            for (repository, backups) in all.iter().filter(|(repository, _)| here(&repository.name)) {
                let copy = match backups {
                    Ok(backups) => {
                        copy(repository, backups, &newest.place()).await.map_err(|error| human::chain(&error))
                    }
                    Err(reason) => Err(reason.clone()),
                };
                copies.push((repository.name.clone(), copy));
            }
            sample.push(Sample { copies, label: newest.label.clone(), finished: newest.finished_at });
        }
        Ok(sample)
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let told = |one: &Sample| {
            let have = one.copies.iter().filter(|(_, copy)| matches!(copy, Ok(Some(_)))).count();
            format!("{} is in {have} of {} repositories", one.label, one.copies.len())
        };
        let lines: Vec<_> = sample.iter().map(told).collect();
        let mut verdict = Verdict::of(if lines.is_empty() { "no backup".to_owned() } else { lines.join("; ") });
        let mut wrong: BTreeMap<&str, Vec<(String, Detail)>> = BTreeMap::new();
        for one in sample {
            let age = baseline.now - one.finished;
            for (repository, copy) in &one.copies {
                match copy {
                    Err(reason) => verdict.find(not_seen(repository, "whether the newest backup is present", reason)),
                    Ok(copy) => {
                        let Some((summary, faults)) = self.judge(one, repository, copy.as_ref(), age) else { continue };
                        let detail = Detail::new()
                            .fact("backup", &one.label)
                            .time("finished", one.finished)
                            .text(faults.join("\n"));
                        wrong.entry(repository).or_default().push((summary, detail));
                    }
                }
            }
        }
        for (repository, wrong) in wrong {
            let detail = wrong.iter().fold(Detail::new(), |all, (_, one)| all.and(one.clone()));
            let summaries: Vec<_> = wrong.into_iter().map(|(summary, _)| summary).collect();
            verdict.find(
                Finding::new(Severity::Warning, repository, summaries.join("; "))
                    .meaning("If the other repository is lost, so is this backup.")
                    .advice(format!(
                        "Copy it there: \"pgbosun backup copy LABEL --to {repository}\", or a job of kind replicate."
                    ))
                    .detail(detail),
            );
        }
        verdict
    }
}

impl BackupCopies {
    /// What is wrong with the backup in one repository, in a sentence and in lines.
    fn judge(
        &self,
        Sample { label, copies, .. }: &Sample,
        repository: &str,
        copy: Option<&Copy>,
        age: TimeDelta,
    ) -> Option<(String, Vec<String>)> {
        let there = copies.iter().find_map(|(name, copy)| Some((name, copy.as_ref().ok()?.as_ref()?)));
        let late = age.to_std().unwrap_or_default() > self.patience;
        match (copy, there) {
            (None, _) => late.then(|| (format!("backup {label} is not in repository {repository}"), Vec::new())),
            (Some(copy), Some((other, original))) if copy.likeness != original.likeness => {
                let summary = format!("backup {label} in repository {repository} differs from the one in {other}");
                Some((summary, Vec::new()))
            }
            (Some(copy), _) if !copy.faults.is_empty() => {
                let faults = human::count(copy.faults.len(), "fault");
                let summary = format!("backup {label} is not good in repository {repository}: {faults}");
                Some((summary, copy.faults.iter().take(SHOWN).cloned().collect()))
            }
            (Some(_), _) => None,
        }
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
        let check = |minutes: i64, offsite: Result<Option<Copy>, String>| {
            let copies = vec![("local".into(), Ok(copy(9, &[]))), ("offsite".into(), offsite)];
            let sample = vec![Sample { label: "b".into(), finished: DateTime::UNIX_EPOCH, copies }];
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minutes), ..Baseline::default() };
            let found = monitor.verdict(&sample, &mut (), &baseline).findings.into_iter().next();
            found.map(|finding| (finding.object, finding.summary))
        };
        assert_eq!([check(59, Ok(None)), check(600, Ok(copy(9, &[])))], [None, None]);
        let told = |found: Option<(String, String)>, words: &str| {
            let (object, summary) = found.unwrap();
            assert!(object == "offsite" && summary.contains(words), "{object}: {summary}");
        };
        told(check(61, Ok(None)), "is not in repository offsite");
        told(check(1, Ok(copy(8, &[]))), "differs from the one in local");
        told(check(1, Ok(copy(9, &["base is not there"]))), "is not good in repository offsite: 1 fault");
        told(check(1, Err("away".into())), "cannot be determined");
    }
    #[test]
    fn copies_are_copied_on_and_no_name_stands_for_all() {
        let name = |name: &str| RepositoryName(name.into());
        let job = |from: &str, to: &str| Replicate { from: name(from), to: name(to), wal: true };
        let copied = [job("second", "third"), job("local", "second"), job("other", "elsewhere"), job("third", "local")];
        let expected = ["local", "second", "third"].map(name);
        assert_eq!(with_copies(vec![name("local")], &copied), expected);
        assert_eq!(with_copies(Vec::new(), &copied), []);
    }
}
