//! Whether WAL is archived (reference: `pg_stat_archiver` failures, age of the oldest `.ready` segment, gaps).

use crate::{
    Baseline, JobContext, JobError,
    backups::ought_to_archive,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_backup::wal::{Gap, Spool};
use pgbosun_core::{
    clock,
    config::Needs,
    detail::{Detail, Value},
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use std::time::Duration;

options! {
    /// Alerts when WAL does not get into the archive: the server's archiver fails, finished segments wait too long, segments
    /// wait for a repository that is unavailable, or one was left out there since the last good backup. If nothing is archived
    /// at all, that is critical on a primary that archived before, and where a backup job promises recovery to any moment.
    pub struct WalArchive {
        /// Warns when a finished segment has waited this long.
        warning_age: Duration = "\"5m\"";
        /// Critical when one has waited this long.
        critical_age: Duration = "\"15m\"";
    }
}

/// What was found.
pub struct Sample {
    failing: Option<(i64, String, DateTime<Utc>)>,
    archiving: bool,
    /// A primary archives nothing, although this is so.
    ended: Option<&'static str>,
    archived: Option<DateTime<Utc>>,
    oldest_ready: Option<(String, Duration)>,
    ready: i64,
    spools: Vec<(String, u64, u64)>,
    gaps: Vec<Gap>,
}

#[derive(sqlx::FromRow)]
struct Archiver {
    archiving: bool,
    switched_off: bool,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    system_id: String,
    failed_count: i64,
    last_archived_time: Option<DateTime<Utc>>,
    #[sqlx(try_from = "pgbosun_postgres::MaybeLossy")]
    last_failed_wal: Option<String>,
    last_failed_time: Option<DateTime<Utc>>,
    failing: bool,
}

#[derive(Default, sqlx::FromRow)]
struct Ready {
    ready: i64,
    #[sqlx(try_from = "pgbosun_postgres::MaybeLossy")]
    oldest: Option<String>,
    age: Option<f64>,
}

#[async_trait]
impl Monitor for WalArchive {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "reference 001: pg_stat_archiver, the age of the oldest .ready; check_pgactivity archiver, by recency",
        queries: &[
            Query { what: "read pg_stat_archiver", sql: include_str!("wal_archive.sql") },
            Query { what: "list the segments that wait", sql: include_str!("wal_ready.sql") },
        ],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let row: Archiver = session.row(&Self::FACTS.queries[0]).await?;
        let grant = "As a superuser: grant pg_monitor to the role.";
        let waiting: Option<Vec<Ready>> = match row.archiving {
            true => session.rows_if_allowed(&Self::FACTS.queries[1], grant).await?,
            false => None,
        };
        let Ready { ready, oldest, age } = waiting.and_then(|mut rows| rows.pop()).unwrap_or_default();
        let oldest_ready = oldest.zip(age).map(|(name, age)| {
            let name = name.trim_end_matches(".ready").to_owned();
            (name, Duration::try_from_secs_f64(age).unwrap_or_default())
        });
        let failing = (row.archiving && row.failing).then(|| {
            let name = row.last_failed_wal.unwrap_or_default();
            (row.failed_count, name, row.last_failed_time.unwrap_or_else(clock::now))
        });
        let (cluster, _) = session.context.cluster()?;
        session.release().await;
        let (spools, gaps) = spools(session.context, cluster).await?;
        let ended = match row.switched_off {
            true => {
                let (config, repositories) = (&session.context.config, session.context.repositories(&[])?);
                ought_to_archive(config, &repositories, cluster, &row.system_id).await
            }
            false => None,
        };
        Ok(Sample {
            failing,
            archiving: row.archiving,
            ended,
            archived: row.last_archived_time,
            oldest_ready,
            ready,
            spools,
            gaps,
        })
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let mut findings = Vec::new();
        if let Some(although) = sample.ended {
            // C30: from the first check, since what is committed now is in no archive.
            findings.push(
                Finding::new(Severity::Critical, "archiving", format!("nothing is archived, and {although}"))
                    .meaning("Whatever is committed from now on is in no archive: point-in-time recovery ends where archiving did.")
                    .advice(
                        "Set archive_mode = on (a copy that was restored alongside its original has it off in postgresql.auto.conf), \
                         restart the server, and take a new backup.",
                    ),
            );
        }
        let mut find = |object: &str, severity, summary: String, meaning: &str, advice: &str, detail: Detail| {
            findings.push(Finding::new(severity, object, summary).meaning(meaning).advice(advice).detail(detail));
        };
        if let Some((count, name, at)) = &sample.failing {
            find(
                "archiver",
                Severity::Critical,
                format!("WAL archiving is failing at segment {name}"),
                "Unarchived WAL accumulates in pg_wal until the disk is full, and is lost if the server is lost.",
                "The server's log has the output of archive_command. Try \"pgbosun wal push\" with that file by hand.",
                Detail::new().fact("file", name).time("last failure", *at).fact("failures", count),
            );
        }
        let waited = sample.oldest_ready.as_ref().map(|(name, age)| {
            let (warning, critical) = (self.warning_age.as_secs_f64(), self.critical_age.as_secs_f64());
            (name, age, baseline.above("waiting", age.as_secs_f64(), warning, critical))
        });
        if let Some((name, age, severity)) = waited.filter(|(.., severity)| *severity > Severity::Ok) {
            find(
                "waiting",
                severity,
                format!(
                    "{} waiting to be archived, the oldest for {}",
                    human::count(sample.ready, "segment"),
                    human::duration(*age)
                ),
                "Whatever they hold is lost if the server is.",
                "See whether archiving fails or is slower than the server writes; push-workers under [wal] helps with the latter.",
                Detail::new().fact("oldest", name),
            );
        }
        for (repository, files, bytes) in &sample.spools {
            find(
                &format!("spool for {repository}"),
                Severity::Warning,
                format!(
                    "{} waiting for repository {repository} ({})",
                    human::count(*files, "WAL file"),
                    human::size(*bytes)
                ),
                "The repository is unavailable; the required ones have the files. Beyond spool-limit, files are left out of this one.",
                "Find out why the repository does not answer: \"pgbosun check\".",
                Detail::new(),
            );
        }
        for repository in sample.gaps.iter().map(|gap| &gap.repository).collect::<std::collections::BTreeSet<_>>() {
            let own: Vec<_> = sample.gaps.iter().filter(|gap| gap.repository == *repository).collect();
            let files = own.iter().take(20).map(|gap| [Value::of(&gap.file), gap.at.into()]);
            find(
                &format!("gap in {repository}"),
                Severity::Critical,
                format!("{} left out of {repository}", human::count(own.len(), "WAL file")),
                "Recovery from this repository alone cannot go past the gap. The repository was unavailable for longer than the spool had room for.",
                "Fill the gap with a job of kind replicate, or take a new backup into this repository: that ends this alert.",
                Detail::new().table(["file", "skipped at"], files),
            );
        }
        let summary = match (sample.archiving, &sample.failing) {
            (false, _) if sample.ended.is_some() => "nothing is archived".into(),
            (false, _) => "nothing is archived: archive_mode is off, or this is a standby".into(),
            (true, Some(_)) => "archiving is failing".into(),
            (true, None) => format!("archiving works, {} waiting", human::count(sample.ready, "segment")),
        };
        let mut verdict = Verdict { summary, findings, metrics: Vec::new() };
        if sample.archiving {
            let oldest = sample.oldest_ready.as_ref().map_or(0.0, |(_, age)| age.as_secs_f64());
            let failing = f64::from(u8::from(sample.failing.is_some()));
            verdict.measure(Metric::new("postgres_wal_ready_segments", sample.ready as f64));
            verdict.measure(Metric::new("postgres_wal_oldest_ready_seconds", oldest));
            verdict.measure(Metric::new("postgres_wal_archiver_failing", failing));
        }
        verdict.measure(Metric::new("postgres_wal_gaps", sample.gaps.len() as f64));
        if let Some(at) = sample.archived {
            verdict.measure(Metric::new("postgres_wal_last_archived_timestamp_seconds", at.timestamp() as f64));
        }
        verdict
    }
}

/// What waits in the spools, and what was left out since the newest good backup of each repository.
async fn spools(context: &JobContext, cluster: &str) -> Result<(Vec<(String, u64, u64)>, Vec<Gap>), JobError> {
    let config = &context.config;
    let directory = config.spool_directory();
    let (mut waiting, mut gaps) = (Vec::new(), Vec::new());
    for repository in context.repositories(&[])?.into_iter().filter(|repository| !repository.options.required) {
        let spool = Spool::new(&directory, config.wal.spool_limit.as_u64(), &repository);
        let files = spool.waiting().await?;
        if !files.is_empty() {
            waiting.push((repository.name.clone(), files.len() as u64, files.iter().map(|(_, size)| size).sum()));
        }
        let own: Vec<_> = spool.gaps()?.into_iter().filter(|gap| gap.cluster == cluster).collect();
        if own.is_empty() {
            continue;
        }
        let newest = pgbosun_backup::newest_good(&repository, cluster).await.ok().flatten();
        gaps.extend(own.into_iter().filter(|gap| newest.as_ref().is_none_or(|info| info.started_at < gap.at)));
    }
    Ok((waiting, gaps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c30_what_waits_what_has_ended_and_what_is_left_out_is_told() {
        let monitor = WalArchive { warning_age: Duration::from_secs(300), critical_age: Duration::from_secs(900) };
        let quiet = Sample {
            failing: None,
            archiving: true,
            ended: None,
            archived: None,
            oldest_ready: Some(("1".into(), Duration::from_secs(10))),
            ready: 1,
            spools: Vec::new(),
            gaps: Vec::new(),
        };
        assert!(monitor.verdict(&quiet, &mut (), &Baseline::default()).findings.is_empty());
        let ended =
            Sample { archiving: false, ended: Some("WAL was archived before"), oldest_ready: None, ready: 0, ..quiet };
        let verdict = monitor.verdict(&ended, &mut (), &Baseline::default());
        assert_eq!((verdict.findings.len(), verdict.findings[0].severity), (1, Severity::Critical));
        let quiet = Sample { archiving: true, ended: None, ..ended };
        let gap = Gap { repository: "offsite".into(), cluster: "main".into(), file: "00".into(), at: clock::now() };
        let loud = Sample {
            failing: Some((3, "000000010000000000000002".into(), clock::now())),
            oldest_ready: Some(("1".into(), Duration::from_secs(1000))),
            spools: vec![("offsite".into(), 2, 1000)],
            gaps: vec![gap.clone(), gap],
            ..quiet
        };
        let findings = monitor.verdict(&loud, &mut (), &Baseline::default()).findings;
        let told: Vec<_> = findings.iter().map(|finding| (finding.object.as_str(), finding.severity)).collect();
        let expected = [
            ("archiver", Severity::Critical),
            ("waiting", Severity::Critical),
            ("spool for offsite", Severity::Warning),
            ("gap in offsite", Severity::Critical),
        ];
        assert_eq!(told, expected);
    }
}
