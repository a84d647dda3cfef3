//! Whether as many backups are there as retention promises (reference 002: backup count per tier).

use crate::{
    JobError,
    monitors::{
        Baseline, Monitor, MonitorFacts, MonitorSession, Verdict,
        backups::{InEach, each, in_each, not_seen, which},
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Datelike, Utc};
use pgbosun_backup::{Catalogue, Entry};
use pgbosun_core::{
    config::{Needs, RepositoryName},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::collections::BTreeSet;

options! {
    /// Alerts when there are fewer good backups than there should be.
    pub struct BackupCount {
        /// The repositories to check; by default those that the cluster's backups go to.
        repositories: Vec<RepositoryName> = "[]";
        /// Warns when there are fewer backups than this.
        minimum: u32 = "1";
        /// Warns when any of this many past days has no backup; days before the oldest backup do not count.
        daily: Option<u32>;
        /// The same for weeks.
        weekly: Option<u32>;
        /// The same for months.
        monthly: Option<u32>;
    }
}

#[async_trait]
impl Monitor for BackupCount {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "15 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "reference 002: backup count per tier",
        queries: &[],
    };
    /// When those that are good ended.
    type Sample = InEach<Vec<DateTime<Utc>>>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let all = in_each(session, &self.repositories).await?;
        let good = |entry: &&Entry| entry.health().is_good();
        // C27: one that does not restore is none.
        let ends = |catalogue: Catalogue| {
            catalogue.entries().iter().filter(good).map(|entry| entry.info.finished_at).collect()
        };
        Ok(each(all, ends))
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let count =
            |ends: &Result<Vec<_>, _>| ends.as_ref().map_or_else(|_| "unknown".into(), |ends| ends.len().to_string());
        let counts: Vec<_> = sample.iter().map(|(repository, ends)| format!("{repository}: {}", count(ends))).collect();
        let mut verdict = Verdict::of(counts.join("; "));
        for (repository, ends) in sample {
            let ends = match ends {
                Ok(ends) => ends,
                Err(reason) => {
                    verdict.find(not_seen(repository, "the number of backups", reason));
                    continue;
                }
            };
            verdict.measure(Metric::new("postgres_backups", ends.len() as f64).of("repository", repository));
            let mut missing = Vec::new();
            if ends.len() < self.minimum as usize {
                missing.push(format!("{} (at least {})", human::count(ends.len(), "backup"), self.minimum));
            }
            let days = ends.iter().map(|end| i64::from(end.num_days_from_ce())).collect::<BTreeSet<_>>();
            let today = i64::from(baseline.now.num_days_from_ce());
            let month = |end: &DateTime<Utc>| i64::from(end.year()) * 12 + i64::from(end.month0());
            let months = ends.iter().map(month).collect::<BTreeSet<_>>();
            // Day 1 of the common era was a Monday.
            let weeks = days.iter().map(|day| (day - 1) / 7).collect::<BTreeSet<_>>();
            let tiers = [
                ("days", self.daily, &days, today),
                ("weeks", self.weekly, &weeks, (today - 1) / 7),
                ("months", self.monthly, &months, month(&baseline.now)),
            ];
            for (unit, wanted, have, now) in tiers {
                let (Some(wanted), Some(oldest)) = (wanted, have.first()) else { continue };
                // The running day, week or month may have none yet.
                let from = (now - i64::from(wanted)).max(*oldest);
                let lack = (from..now).filter(|one| !have.contains(one)).count();
                if lack > 0 {
                    missing.push(format!("{lack} of the last {} {unit} without one", now - from));
                }
            }
            if !missing.is_empty() {
                verdict.find(
                    Finding::new(Severity::Warning, repository, {
                        let summary = format!("backups are missing: {}", missing.join(", "));
                        which(sample.len() > 1, repository, summary)
                    })
                    .meaning("Less can be restored than was promised.")
                    .advice("\"pgbosun backup list\" shows what is there, \"pgbosun job history\" what failed.")
                    .detail(Detail::new().fact("repository", repository)),
                );
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_is_found_and_today_may_still_have_none() {
        let monitor =
            BackupCount { repositories: Vec::new(), minimum: 1, daily: Some(7), weekly: Some(4), monthly: None };
        let check = |days: &[u32]| {
            let ends = days.iter().map(|day| format!("2026-11-{day:02}T23:59:00Z").parse().unwrap()).collect();
            let baseline = Baseline { now: "2026-11-21T12:00:00Z".parse().unwrap(), ..Baseline::default() };
            let sample = vec![("local".into(), Ok(ends))];
            monitor.verdict(&sample, &mut (), &baseline).findings.first().map(|finding| finding.summary.clone())
        };
        assert_eq!(check(&[14, 15, 16, 17, 18, 19, 20]), None);
        assert_eq!(check(&[19, 20]), None, "there are none before the first");
        assert_eq!(check(&[14, 15, 17, 20]).unwrap(), "backups are missing: 3 of the last 7 days without one");
        assert_eq!(check(&[]).unwrap(), "backups are missing: 0 backups (at least 1)");
    }
}
