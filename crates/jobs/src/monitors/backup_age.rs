//! How old the newest good backup is (reference: backup age monitor, critical above 25 hours).

use super::Monitor;
use crate::{JobContext, JobError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    clock,
    config::RepositoryName,
    finding::{Finding, Severity},
    human, options,
};
use std::time::Duration;

options! {
    /// Alerts when the newest good backup of the cluster is too old, in each repository by itself. It asks the
    /// repositories, not history: what is not there is not a backup.
    pub struct BackupAge {
        /// The repositories to look into; all of them by default.
        repositories: Vec<RepositoryName> = "[]";
        /// Critical above this age.
        critical_age: Duration = "\"25h\"";
        /// Warns above this age.
        warning_age: Option<Duration>;
    }
}

/// The newest good backup of one repository.
pub struct Newest {
    repository: String,
    backup: Option<(String, DateTime<Utc>)>,
    looked: DateTime<Utc>,
}

#[async_trait]
impl Monitor for BackupAge {
    type Sample = Vec<Newest>;

    async fn sample(&self, context: &JobContext) -> Result<Self::Sample, JobError> {
        let (cluster, _) = context.cluster()?;
        let mut newest = Vec::new();
        for repository in context.repositories(&self.repositories)? {
            let backup = repository.newest_good(cluster).await?.map(|info| (info.label, info.finished_at));
            newest.push(Newest { repository: repository.name, backup, looked: clock::now() });
        }
        Ok(newest)
    }

    fn verdict(&self, sample: &Self::Sample) -> (String, Vec<Finding>) {
        let findings = sample.iter().filter_map(|newest| self.judge(newest)).collect();
        let lines: Vec<_> = sample
            .iter()
            .map(|newest| match &newest.backup {
                Some((label, at)) => {
                    format!("{}: {label}, {} old", newest.repository, human::span(newest.looked - *at))
                }
                None => format!("{}: none", newest.repository),
            })
            .collect();
        (if lines.is_empty() { "no repository to look into".into() } else { lines.join("; ") }, findings)
    }
}

impl BackupAge {
    fn judge(&self, newest: &Newest) -> Option<Finding> {
        let limit = human::duration(self.critical_age);
        let (severity, summary, detail) = match &newest.backup {
            None => (Severity::Critical, format!("no backup exists (limit {limit})"), "newest: none".to_owned()),
            Some((label, at)) => {
                let age = (newest.looked - *at).to_std().unwrap_or_default();
                let told = human::duration(age);
                let detail = format!("newest: {label}\nfinished: {}", at.format("%Y-%m-%d %H:%M:%S UTC"));
                match self.warning_age {
                    _ if age > self.critical_age => {
                        (Severity::Critical, format!("backup is {told} old (limit {limit})"), detail)
                    }
                    Some(warning) if age > warning => (
                        Severity::Warning,
                        format!("backup is {told} old (limit {})", human::duration(warning)),
                        detail,
                    ),
                    _ => return None,
                }
            }
        };
        Some(Finding {
            object: newest.repository.clone(),
            severity,
            summary,
            meaning: "Whatever changed since the newest backup is lost if the server is.".into(),
            advice: "See why the backup job did not succeed with \"pgbosun job history\", then run it with \
                     \"pgbosun job run NAME\"."
                .into(),
            detail: format!("repository: {}\n{detail}", newest.repository),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(hours: Option<i64>) -> Option<(Severity, String)> {
        let monitor = BackupAge {
            repositories: Vec::new(),
            critical_age: Duration::from_secs(25 * 3600),
            warning_age: Some(Duration::from_secs(24 * 3600)),
        };
        let looked: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
        let backup = hours.map(|hours| ("label".to_owned(), looked - chrono::Duration::hours(hours)));
        let newest = Newest { repository: "local".into(), backup, looked };
        monitor.judge(&newest).map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn ages_and_absence() {
        assert_eq!(judge(Some(24)), None);
        assert_eq!(judge(Some(25)), Some((Severity::Warning, "backup is 25 h old (limit 24 h)".into())));
        assert_eq!(judge(Some(27)), Some((Severity::Critical, "backup is 27 h old (limit 25 h)".into())));
        assert_eq!(judge(None), Some((Severity::Critical, "no backup exists (limit 25 h)".into())));
    }
}
