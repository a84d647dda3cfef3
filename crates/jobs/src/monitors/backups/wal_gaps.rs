//! Whether the archive goes on without a gap from the newest good backup to what the server says it has archived (reference
//! 001: gaps in the archive).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Verdict, View},
};
use async_trait::async_trait;
use pgbosun_backup::wal::{Archive, Spool};
use pgbosun_core::{
    config::Needs,
    figure::Figure,
    finding::{Finding, Severity},
    human, options,
    wal::{Segment, WalFile},
};
use pgbosun_repository::{BackupInfo, Repository};

options! {
    /// Alerts when segments are missing from the archive after the newest good backup, in each repository WAL goes to by itself:
    /// recovery goes no further than to the gap. It lists the archive, so it looks less often than others. Whether every
    /// segment can be read is what `verify` looks for.
    pub struct WalGaps {}
}

/// How far the WAL of one repository goes.
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
pub struct Sample {
    /// What the server archived last.
    last: Option<Segment>,
    /// Whether the server archives with pgbosun, as far as its command tells.
    ours: bool,
    /// Bytes of a segment.
    size: u64,
    reaches: Vec<Reach>,
    /// Repositories that could not be asked, and why.
    away: Vec<(String, String)>,
}

#[derive(sqlx::FromRow)]
struct Archiver {
    last: String,
    ours: bool,
}

#[async_trait]
impl Monitor for WalGaps {
    const FACTS: Facts = Facts {
        every: "17 */6 * * *",
        group: "database",
        looks: 1,
        needs: Needs::Backups,
        source: "reference 001: gaps in the archive",
        queries: &[Query { what: "read pg_stat_archiver", sql: include_str!("wal_gaps.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, look: &mut Look<'_>) -> Result<Self::Sample, JobError> {
        // The server first: what it archives meanwhile is in the archive only.
        let row: Archiver = look.row(&Self::FACTS.queries[0]).await?;
        let (cluster, _) = look.context.cluster()?;
        let mut newest = None;
        for repository in look.context.backup_repositories(&[])? {
            // One that is away is told by monitor.backup-age.
            let found = pgbosun_backup::newest_good(&repository, cluster).await.ok().flatten();
            newest = newest.into_iter().chain(found).max_by_key(|info: &BackupInfo| info.position());
        }
        let last = match WalFile::parse(&row.last) {
            Some(WalFile::Segment(segment)) => Some(segment),
            _ => None,
        };
        let (size, reaches, away) = (0, Vec::new(), Vec::new());
        let mut sample = Sample { last, ours: row.ours, size, reaches, away };
        let Some(newest) = newest else { return Ok(sample) };
        sample.size = newest.wal_segment_size;
        let config = &look.context.config;
        for (name, options) in config.wal_repositories(cluster) {
            let repository = Repository::open(config, name, options)?;
            let own = std::slice::from_ref(&repository);
            let archive = match Archive::read(own, cluster, &newest.system_id, newest.wal_segment_size).await {
                Ok(archive) => archive,
                Err(error) => {
                    sample.away.push((repository.name.clone(), human::chain(&error)));
                    continue;
                }
            };
            let target = archive.lineage.towards(newest.timeline);
            let end = archive.end(target, newest.start_lsn);
            let begin = end.start(newest.wal_segment_size);
            let beyond = archive.segments.iter().filter(|segment| archive.is_on_line(target, **segment));
            let next = beyond.filter(|segment| segment.start(newest.wal_segment_size) > begin).min().copied();
            let spool = Spool::new(&config.spool_directory(), config.wal.spool_limit.as_u64(), &repository);
            let waits = !repository.options.required && !spool.waiting().await?.is_empty();
            sample.reaches.push(Reach { repository: repository.name.clone(), end, next, waits });
        }
        Ok(sample)
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &View) -> Verdict {
        let place = |segment: &Segment| segment.start(sample.size).0;
        let between = |from: &Segment, to: &Segment| (place(to) - place(from)) / sample.size.max(1);
        let words = sample.reaches.iter().map(|reach| format!("{} goes up to {}", reach.repository, reach.end));
        let words: Vec<_> = words.collect();
        let summary =
            if words.is_empty() { "there is no backup that WAL would follow".into() } else { words.join("; ") };
        let mut verdict = Verdict::of(summary);
        for (repository, reason) in &sample.away {
            let summary = format!("whether WAL is missing in {repository} cannot be said");
            verdict.find(
                Finding::new(Severity::Unknown, repository, summary)
                    .advice("See why the repository does not answer: \"pgbosun check\".")
                    .detail(format!("error: {reason}")),
            );
        }
        for Reach { repository, end, next, waits } in &sample.reaches {
            let last = sample.last.filter(|last| last.timeline == end.timeline && place(last) >= place(end) && !waits);
            let missing = match (next, &last) {
                (Some(next), _) => between(end, next),
                (None, Some(last)) => between(end, last) + 1,
                (None, None) => 0,
            };
            let figure = Figure::new("postgres_wal_missing_segments", missing as f64);
            verdict.measure(figure.of("repository", repository));
            if missing == 0 {
                continue;
            }
            let advice = match next {
                Some(_) => {
                    "Another repository may have them: a job of kind replicate fills the gap. Else take a new backup now, and \
                     look why they are missing (\"pgbosun wal list\")."
                }
                None => {
                    "See that archive_command is pgbosun wal push \"%p\" and nothing else answers for it; then take a new \
                     backup now."
                }
            };
            // Somebody else may archive on purpose.
            let severity = if sample.ours || next.is_some() { Severity::Critical } else { Severity::Warning };
            let what = human::count(missing as usize, "segment");
            let told = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
            let there = next.map_or_else(|| "none".to_owned(), |next| next.to_string());
            verdict.find(
                Finding::new(severity, repository, format!("{what} of WAL missing in {repository}, from {end} on"))
                    .meaning("Recovery from the newest backup goes no further than to there.")
                    .advice(advice)
                    .detail(format!("first missing: {end}\nnext there: {there}\nthe server archived last: {told}")),
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
        let sample = Sample { last: last.map(segment), ours, size: 16 << 20, reaches, away: Vec::new() };
        let verdict = WalGaps {}.verdict(&sample, &mut (), &View::default());
        verdict.findings.into_iter().map(|finding| (finding.severity, finding.summary)).collect()
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
