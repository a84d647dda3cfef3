//! How old the newest good backup is (reference: backup age monitor, critical above 25 hours).

use crate::{
    Baseline, JobError,
    backups::untrusted,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict, backups::which},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_backup::Catalogue;
use pgbosun_core::{
    config::{Needs, RepositoryName},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use pgbosun_repository::{CLOCK_TOLERANCE, Error};
use std::time::Duration;

options! {
    /// Alerts when the newest good backup of the cluster is too old, in each repository separately. It asks the repositories,
    /// not history: a backup that is not there is not a backup.
    pub struct BackupAge {
        /// The repositories to check; by default those that the cluster's backups go to.
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
    backup: Result<Option<(String, DateTime<Utc>)>, String>,
    /// Those that are dated in the future.
    ahead: Vec<String>,
    /// Why backups are not to be believed (C42).
    untrusted: Vec<String>,
}

#[async_trait]
impl Monitor for BackupAge {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "reference 000, backup age monitor: critical above 25 hours",
        queries: &[],
    };
    type Sample = Vec<Newest>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let (cluster, _) = session.context.cluster()?;
        let (mut newest, mut away, now) = (Vec::new(), None, session.context.baseline.now);
        for repository in crate::backups::repositories(session.context, &self.repositories)? {
            // One that is away says nothing about the others.
            let (mut ahead, mut untrusted) = (Vec::new(), Vec::new());
            let backup = match Catalogue::shown(&repository, Some(cluster)).await {
                Ok(catalogue) => {
                    ahead.extend(
                        catalogue.infos().filter(|info| info.is_dated_ahead(now)).map(|info| info.label.clone()),
                    );
                    let is_untrusted = |error: &&Error| matches!(error, Error::Untrusted { .. });
                    untrusted.extend(catalogue.unreadable.iter().filter(is_untrusted).map(ToString::to_string));
                    Ok(catalogue.newest_good(now).map(|info| (info.label.clone(), info.finished_at)))
                }
                Err(error) => {
                    let reason = human::chain(&error);
                    away = away.or(Some(error));
                    Err(reason)
                }
            };
            newest.push(Newest { repository: repository.name, backup, ahead, untrusted });
        }
        match away {
            Some(error) if newest.iter().all(|one| one.backup.is_err()) => Err(error.into()),
            _ => Ok(newest),
        }
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let lines: Vec<_> = sample
            .iter()
            .map(|newest| match &newest.backup {
                Ok(Some((label, at))) if *at > baseline.now + CLOCK_TOLERANCE => {
                    format!("{}: {label}, dated in the future", newest.repository)
                }
                Ok(Some((label, at))) => {
                    format!("{}: {label}, {} old", newest.repository, human::span(baseline.now - *at))
                }
                Ok(None) => format!("{}: none", newest.repository),
                Err(_) => format!("{}: unknown", newest.repository),
            })
            .collect();
        let mut verdict =
            Verdict::of(if lines.is_empty() { "no repository to check".into() } else { lines.join("; ") });
        for newest in sample {
            if let Ok(Some((_, at))) = &newest.backup
                && *at <= baseline.now + CLOCK_TOLERANCE
            {
                let age = (baseline.now - *at).as_seconds_f64();
                verdict.measure(Metric::new("postgres_backup_age_seconds", age).of("repository", &newest.repository));
            }
            let told = self.judge(newest, baseline).into_iter().chain(dated_ahead(newest));
            verdict.findings.extend(told.map(|finding| {
                let summary = which(sample.len() > 1, &newest.repository, finding.summary);
                Finding { summary, ..finding }
            }));
            verdict.findings.extend(not_trusted(newest));
        }
        verdict
    }
}

impl BackupAge {
    fn judge(&self, newest: &Newest, baseline: &Baseline) -> Option<Finding> {
        let limit = human::duration(self.critical_age);
        let (severity, summary, detail) = match &newest.backup {
            Err(reason) => {
                let summary = "the age of the newest backup cannot be determined".to_owned();
                (Severity::Unknown, summary, Detail::error(reason))
            }
            Ok(None) => {
                (Severity::Critical, format!("no backup exists (limit {limit})"), Detail::new().fact("newest", "none"))
            }
            // C33: told as such by another finding.
            Ok(Some((_, at))) if *at > baseline.now + CLOCK_TOLERANCE => return None,
            Ok(Some((label, at))) => {
                let age = (baseline.now - *at).to_std().unwrap_or_default();
                let told = human::duration(age);
                let detail = Detail::new().fact("newest", label).time("finished", *at);
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
        Some(
            Finding::new(severity, &newest.repository, summary)
                .meaning("Whatever changed since the newest backup is lost if the server is.")
                .advice(
                    "Find out with \"pgbosun job history\" why the backup job did not succeed, then run it with \
                     \"pgbosun job run NAME\".",
                )
                .detail(Detail::new().fact("repository", &newest.repository).and(detail)),
        )
    }
}

/// C33: dates that cannot be right say nothing of ages, and every rule that counts days is wrong about them.
fn dated_ahead(newest: &Newest) -> Option<Finding> {
    let first = newest.ahead.first()?;
    Some(
        Finding::new(
            Severity::Critical,
            format!("{}/clock", newest.repository),
            format!("{} dated in the future", human::count(newest.ahead.len(), "backup")),
        )
        .meaning("The clock was wrong when it was taken, or is wrong now. The age of the newest backup may be unknown.")
        .advice("Compare this machine's clock with another one, correct it, and take a new backup.")
        .detail(Detail::new().fact("repository", &newest.repository).fact("the first", first)),
    )
}

/// C42
fn not_trusted(newest: &Newest) -> Option<Finding> {
    newest.untrusted.first()?;
    let (repository, count) = (&newest.repository, human::count(newest.untrusted.len(), "backup"));
    let finding = untrusted(format!("{repository}/signatures"), format!("{count} in {repository} not trusted"));
    let reasons = newest.untrusted.iter();
    Some(
        finding.detail(
            reasons.fold(Detail::new().fact("repository", repository), |all, reason| all.fact("error", reason)),
        ),
    )
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
        let baseline = Baseline { now: "2026-11-21T12:00:00Z".parse().unwrap(), ..Baseline::default() };
        let backup = hours.map(|hours| ("label".to_owned(), baseline.now - chrono::Duration::hours(hours)));
        monitor
            .judge(
                &Newest { repository: "local".into(), backup: Ok(backup), ahead: Vec::new(), untrusted: Vec::new() },
                &baseline,
            )
            .map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn ages_and_absence() {
        assert_eq!(judge(Some(24)), None);
        assert_eq!(judge(Some(25)), Some((Severity::Warning, "backup is 25 h old (limit 24 h)".into())));
        assert_eq!(judge(Some(27)), Some((Severity::Critical, "backup is 27 h old (limit 25 h)".into())));
        assert_eq!(judge(None), Some((Severity::Critical, "no backup exists (limit 25 h)".into())));
    }
}
