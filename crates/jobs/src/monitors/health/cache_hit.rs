//! How much of what is read comes from the cache (check_pgactivity: hit_ratio), by delta, and only where enough is read to
//! say anything.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Rates, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, metric::Metric, options};

options! {
    /// Alerts when a busy database finds too little of what it reads in shared buffers.
    pub struct CacheHit {
        /// Warns below this share, percent.
        warning_percent: f64 = "90.0";
        /// Critical below this share, percent.
        critical_percent: f64 = "50.0";
        /// With fewer blocks read per second than this, the share is not judged.
        minimum_reads: f64 = "1000.0";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    hit: i64,
    read: i64,
}

#[async_trait]
impl Monitor for CacheHit {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity hit_ratio",
        queries: &[Query { what: "read pg_stat_database", sql: include_str!("cache_hit.sql") }],
    };
    type Sample = Vec<Database>;
    type Memory = Rates;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Rates, baseline: &Baseline) -> Verdict {
        let names: Vec<_> =
            sample.iter().map(|one| (format!("{}/hit", one.name), format!("{}/read", one.name))).collect();
        let pairs = names.iter().zip(sample);
        let counters = pairs.flat_map(|((hit, read), one)| [(hit.as_str(), one.hit), (read.as_str(), one.read)]);
        let rates = memory.advance(baseline.now, counters);
        let mut verdict = Verdict::of("too little is read to say anything");
        let mut worst = f64::INFINITY;
        for ((hit, read), Database { name, .. }) in names.iter().zip(sample) {
            let (Some(hit), Some(read)) = (rates.get(hit), rates.get(read)) else { continue };
            let all = hit.per_second + read.per_second;
            if all <= 0.0 {
                continue;
            }
            let percent = 100.0 * hit.per_second / all;
            verdict.measure(Metric::new("postgres_cache_hit_percent", percent).of("database", name));
            if read.per_second < self.minimum_reads {
                continue;
            }
            if percent < worst {
                worst = percent;
                verdict.summary = format!("{percent:.0} % of what {name} reads is in the cache");
            }
            let severity = baseline.below_percent(name, percent, self.warning_percent, self.critical_percent);
            verdict.find(
                Finding::new(severity, name, format!("only {percent:.0} % of what {name} reads is in the cache"))
                    .meaning("Queries wait for the disk, or for the cache of the operating system.")
                    .advice("Find out which queries read most (pg_stat_statements.shared_blks_read): an index is missing, or shared_buffers is too small.")
                    .detail(Detail::new().fact("blocks from cache", format!("{:.0}/s", hit.per_second)).fact("blocks read", format!("{:.0}/s", read.per_second))),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn by_delta_and_only_where_enough_is_read() {
        let monitor = CacheHit { warning_percent: 90.0, critical_percent: 50.0, minimum_reads: 100.0 };
        let mut memory = Rates::default();
        let mut check = |hit, read, seconds: i64| {
            let baseline = Baseline {
                now: chrono::DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds),
                ..Baseline::default()
            };
            let sample = vec![Database { name: "app".into(), hit, read }];
            monitor.verdict(&sample, &mut memory, &baseline).findings.first().map(|finding| finding.severity)
        };
        assert_eq!(check(0, 1_000_000, 0), None, "what was before does not count");
        assert_eq!(check(100, 1_000_900, 10), None, "90 blocks a second are too few");
        assert_eq!(check(9_000, 1_002_900, 20), Some(Severity::Warning));
        assert_eq!(check(9_100, 1_005_000, 30), Some(Severity::Critical));
        assert_eq!(check(109_100, 1_007_000, 40), None);
    }
}
