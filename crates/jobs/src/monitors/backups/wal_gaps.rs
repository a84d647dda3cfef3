//! Whether the archive goes on without a gap from the newest good backup to what the server says it has archived (reference
//! 001: gaps in the archive).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_backup::{
    newest_good, newest_of,
    wal::{Archive, Spool, newest_primary},
};
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
    run::Trigger,
    wal::{Segment, WalFile},
};
use pgbosun_repository::{ObjectKind, Repository};
use serde::{Deserialize, Serialize};

options! {
    /// Alerts when segments are missing from the archive after the newest good backup, separately for each repository WAL goes
    /// to: recovery cannot go past the gap. Listing the archive is costly, so that is done every six hours, and also at every
    /// run in the first hour after a change of timeline, while something is missing, and when run by hand. Whether every
    /// segment can be read is checked by `verify`.
    pub struct WalGaps {}
}

/// How long a listing serves while nothing changes.
const SERVES: TimeDelta = TimeDelta::hours(6);

/// How long after a change of timeline every run lists: gaps of a failover show when the new timeline is archived.
const UNSETTLED: TimeDelta = TimeDelta::hours(1);

/// How far the WAL of one repository goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    repository: String,
    /// The first segment that is missing.
    end: Segment,
    /// The first that is there after it.
    next: Option<Segment>,
    /// Segments wait for this repository: it is known that it is late.
    waits: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When the archives were listed.
    at: DateTime<Utc>,
    /// The server's timeline; empty on a standby.
    timeline: String,
    /// Since when it has this one, as far as it is known.
    changed: Option<DateTime<Utc>>,
    /// What the server archived last.
    last: Option<Segment>,
    /// Whether the server archives with pgbosun, as far as its command tells.
    ours: bool,
    /// Bytes of a segment.
    size: u64,
    reaches: Vec<Reach>,
    /// Repositories that could not be asked, and why.
    away: Vec<(String, String)>,
    /// Repositories whose archive lacks the history of the server's timeline.
    #[serde(default)]
    unaware: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct Archiver {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    last: String,
    ours: bool,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    timeline: String,
}

impl Sample {
    /// Whether the last listing still says how it is.
    fn serves(&self, timeline: &str, now: DateTime<Utc>) -> bool {
        let settled = self.changed.is_none_or(|changed| now - changed > UNSETTLED);
        let whole = self.away.is_empty()
            && self.unaware.is_empty()
            && self.reaches.iter().all(|reach| self.missing(reach) == 0);
        self.timeline == timeline && settled && whole && (TimeDelta::zero()..SERVES).contains(&(now - self.at))
    }

    fn between(&self, from: &Segment, to: &Segment) -> u64 {
        (to.start(self.size).0.saturating_sub(from.start(self.size).0)) / self.size.max(1)
    }

    /// What the server archived last, where this repository should have it.
    fn last(&self, reach: &Reach) -> Option<Segment> {
        let Reach { end, waits, .. } = reach;
        self.last
            .filter(|last| last.timeline == end.timeline && last.start(self.size) >= end.start(self.size) && !waits)
    }

    /// How many segments a repository lacks.
    fn missing(&self, reach: &Reach) -> u64 {
        match (&reach.next, self.last(reach)) {
            (Some(next), _) => self.between(&reach.end, next),
            (None, Some(last)) => self.between(&reach.end, &last) + 1,
            (None, None) => 0,
        }
    }
}

#[async_trait]
impl Monitor for WalGaps {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "2-59/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Backups,
        source: "reference 001: gaps in the archive",
        queries: &[Query { what: "read pg_stat_archiver", sql: include_str!("wal_gaps.sql") }],
    };
    type Sample = Sample;
    /// The last listing.
    type Memory = Sample;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        // The server first: what it archives meanwhile is in the archive only.
        let row: Archiver = session.row(&Self::FACTS.queries[0]).await?;
        session.release().await;
        let now = session.context.baseline.now;
        let known: Sample = session.context.memory();
        let (cluster, server) = session.context.cluster()?;
        // C41: of several servers the one that was promoted last is the cluster.
        let several = server.conninfo.hosts.len() > 1;
        let primary = if several { newest_primary(server).await } else { None };
        let timeline = primary.map_or(row.timeline, |primary| format!("{:08X}", primary.timeline));
        let number = u32::from_str_radix(&timeline, 16).unwrap_or_default();
        if session.context.trigger != Trigger::Manual && known.serves(&timeline, now) {
            return Ok(known);
        }
        // C41: what a first check finds is no change.
        let moved = !known.timeline.is_empty() && known.timeline != timeline;
        let changed = if moved { Some(now) } else { known.changed };
        let mut found = Vec::new();
        for repository in crate::backups::repositories(session.context, &[])? {
            // One that is away is told by monitor.backup-age.
            found.extend(newest_good(&repository, cluster).await.ok().flatten());
        }
        let last = match WalFile::parse(&row.last) {
            Some(WalFile::Segment(segment)) => Some(segment),
            _ => None,
        };
        let (size, reaches, away, unaware) = (0, Vec::new(), Vec::new(), Vec::new());
        let mut sample = Sample { at: now, timeline, changed, last, ours: row.ours, size, reaches, away, unaware };
        let Some(newest) = newest_of(found, now) else { return Ok(sample) };
        sample.size = newest.wal_segment_size;
        let config = &session.context.config;
        let named = config.wal_repositories(cluster);
        let opened = named.map(|(name, options)| Repository::open(config, name, options));
        let repositories: Vec<_> = opened.collect::<Result<_, _>>()?;
        for repository in repositories {
            let own = std::slice::from_ref(&repository);
            let archive = match Archive::read(own, cluster, &newest.system_id, newest.wal_segment_size).await {
                Ok(archive) => archive,
                Err(error) => {
                    sample.away.push((repository.name.clone(), human::chain(&error)));
                    continue;
                }
            };
            // A server that was promoted just now may be archiving its history.
            if !moved && !archive.knows(number, newest.timeline) {
                sample.unaware.push(repository.name.clone());
            }
            if let Some(reason) = archive.unknown_line(newest.timeline) {
                sample.away.push((repository.name.clone(), reason));
                continue;
            }
            let target = archive.lineage.towards(newest.timeline);
            // What it has itself is not missing.
            let own = newest.object(ObjectKind::Wal).is_some();
            let from = if own { archive.onward(target, &newest) } else { newest.start_lsn };
            let end = archive.end(target, from);
            let begin = end.start(newest.wal_segment_size);
            let beyond = archive.segments.iter().filter(|segment| archive.is_on_line(target, **segment));
            let next = beyond.filter(|segment| segment.start(newest.wal_segment_size) > begin).min().copied();
            let spool = Spool::new(&config.spool_directory(), config.wal.spool_limit.as_u64(), &repository);
            let waits = !repository.options.required && !spool.waiting().await?.is_empty();
            sample.reaches.push(Reach { repository: repository.name.clone(), end, next, waits });
        }
        Ok(sample)
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Sample, _: &Baseline) -> Verdict {
        memory.clone_from(sample);
        let words = sample.reaches.iter().map(|reach| format!("{} goes up to {}", reach.repository, reach.end));
        let words: Vec<_> = words.collect();
        let summary = if words.is_empty() { "there is no backup for WAL to follow".into() } else { words.join("; ") };
        let mut verdict = Verdict::of(summary);
        for (repository, reason) in &sample.away {
            let summary = format!("unknown whether WAL is missing in {repository}");
            verdict.find(
                Finding::new(Severity::Unknown, repository, summary)
                    .advice("Find out why the repository does not answer: \"pgbosun check\".")
                    .detail(Detail::error(reason)),
            );
        }
        for repository in &sample.unaware {
            let summary = format!("the archive in {repository} does not know the server's timeline");
            verdict.find(
                Finding::new(Severity::Critical, format!("{repository} timeline"), summary)
                    .meaning("A restore follows the timeline before the promotion, and loses what was written since.")
                    .advice(
                        "Make sure that archiving works on the server that was promoted. The next backup adds the history file to the \
                         archive, if the role has REPLICATION.",
                    )
                    .detail(Detail::new().fact("timeline", &sample.timeline)),
            );
        }
        for reach in &sample.reaches {
            let (Reach { repository, end, next, .. }, last) = (reach, sample.last(reach));
            let missing = sample.missing(reach);
            let metric = Metric::new("postgres_wal_missing_segments", missing as f64);
            verdict.measure(metric.of("repository", repository));
            if missing == 0 {
                continue;
            }
            let advice = match next {
                Some(_) => {
                    "Another repository may have them: a job of kind replicate fills the gap. Otherwise take a new backup now, and \
                     find out why they are missing (\"pgbosun wal list\")."
                }
                None => {
                    "Make sure that archive_command is pgbosun wal push \"%p\" and that nothing else reports success in its place; \
                     then take a new backup now."
                }
            };
            // Somebody else may archive on purpose.
            let severity = if sample.ours || next.is_some() { Severity::Critical } else { Severity::Warning };
            let what = human::count(missing as usize, "segment");
            let told = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
            let there = next.map_or_else(|| "none".to_owned(), |next| next.to_string());
            verdict.find(
                Finding::new(severity, repository, format!("{what} of WAL missing in {repository}, from {end} on"))
                    .meaning("Recovery from the newest backup cannot go past that point.")
                    .advice(advice)
                    .detail(
                        Detail::new()
                            .fact("first missing", end)
                            .fact("next there", there)
                            .fact("the server archived last", told),
                    ),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32) -> Segment {
        Segment { timeline: 1, log: 0, number }
    }

    fn findings(last: Option<u32>, ours: bool, reach: (u32, Option<u32>, bool)) -> Vec<(Severity, String)> {
        let (end, next, waits) = (segment(reach.0), reach.1.map(segment), reach.2);
        let reaches = vec![Reach { repository: "local".into(), end, next, waits }];
        let sample = Sample { last: last.map(segment), ours, size: 16 << 20, reaches, ..Sample::default() };
        let verdict = WalGaps {}.verdict(&sample, &mut Sample::default(), &Baseline::default());
        verdict.findings.into_iter().map(|finding| (finding.severity, finding.summary)).collect()
    }

    #[test]
    fn c41_the_archive_is_listed_again_when_the_timeline_changes_and_for_an_hour_after() {
        let at = DateTime::UNIX_EPOCH;
        let known = |changed: Option<TimeDelta>| Sample {
            at,
            timeline: "00000001".into(),
            changed: changed.map(|ago| at - ago),
            ..Sample::default()
        };
        let soon = at + TimeDelta::minutes(5);
        assert!(known(None).serves("00000001", soon) && !known(None).serves("00000002", soon));
        assert!(!known(None).serves("00000001", at + SERVES) && !known(None).serves("00000001", at - SERVES));
        assert!(!known(Some(TimeDelta::minutes(1))).serves("00000001", soon));
        assert!(known(Some(TimeDelta::hours(2))).serves("00000001", soon));
        let gap = Reach { repository: "local".into(), end: segment(2), next: Some(segment(4)), waits: false };
        let broken = Sample { size: 16 << 20, reaches: vec![gap], ..known(None) };
        assert!(!broken.serves("00000001", soon), "while something is missing it is looked at again");
    }

    #[test]
    fn a_gap_and_an_archive_that_ends_too_early() {
        assert!(findings(Some(4), true, (5, None, false)).is_empty(), "it has what the server archived");
        assert!(findings(None, true, (5, None, false)).is_empty(), "nothing is known of the server");
        let gap = "2 segments of WAL missing in local, from 000000010000000000000005 on".to_owned();
        assert_eq!(findings(Some(9), true, (5, Some(7), false)), [(Severity::Critical, gap.clone())]);
        assert_eq!(findings(Some(6), true, (5, None, false)), [(Severity::Critical, gap.clone())]);
        assert_eq!(findings(Some(6), false, (5, None, false)), [(Severity::Warning, gap)], "another command archives");
        assert!(findings(Some(6), true, (5, None, true)).is_empty(), "they wait for it");
    }
}
