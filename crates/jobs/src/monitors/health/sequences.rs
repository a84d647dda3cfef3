//! Sequences near their end, or near that of their column (check_postgres: sequence, 85 and 95 %).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict, unseen},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, metric::Metric, options};

options! {
    /// Alerts when a sequence approaches its end, or that of the narrower column it fills.
    pub struct Sequences {
        /// Warns above this share used, percent.
        warning_percent: f64 = "75.0";
        /// Critical above this share, percent.
        critical_percent: f64 = "90.0";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sequence {
    /// Empty where there is none to tell of.
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    percent: f64,
    /// How many of its database the role does not see.
    unseen: i64,
}

#[async_trait]
impl Monitor for Sequences {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "37 6 * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres sequence",
        queries: &[Query { what: "read the sequences", sql: include_str!("sequences.sql") }],
    };
    type Sample = Vec<(String, Sequence)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.everywhere(&Self::FACTS.queries[0], &[]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let seen: Vec<_> = sample.iter().filter(|(_, sequence)| !sequence.name.is_empty()).collect();
        let fullest = seen.iter().max_by(|(_, a), (_, b)| a.percent.total_cmp(&b.percent));
        let mut verdict = Verdict::of(fullest.map_or("no sequence is used".into(), |(database, fullest)| {
            format!("the fullest is {} in {database}, {:.0} % used", fullest.name, fullest.percent)
        }));
        verdict.summary += &unseen(sample.iter().map(|(database, sequence)| (database, sequence.unseen)));
        for (database, Sequence { name, percent, .. }) in seen {
            let object = format!("{name} in {database}");
            let severity = baseline.above(&object, *percent, self.warning_percent, self.critical_percent);
            if severity > pgbosun_core::finding::Severity::Ok {
                let metric = Metric::new("postgres_sequence_used_percent", *percent);
                verdict.measure(metric.of("database", database).of("sequence", name));
            }
            verdict.find(
                Finding::new(severity, &object, format!("sequence {object} is {percent:.1} % used"))
                    .meaning("When it runs out, every insert that needs it fails.")
                    .advice("Make the column bigint, at a quiet time and well in advance: the table is rewritten. If the sequence itself is narrower, ALTER SEQUENCE … AS bigint."),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_said() {
        let monitor = Sequences { warning_percent: 75.0, critical_percent: 90.0 };
        let row = |database: &str, name: &str, percent, unseen| {
            (database.to_owned(), Sequence { name: name.into(), percent, unseen })
        };
        let sample = vec![row("a", "public.x", 80.0, 2), row("a", "public.y", 1.0, 2), row("b", "", 0.0, 1)];
        let verdict = monitor.verdict(&sample, &mut (), &Baseline::default());
        assert_eq!(verdict.findings.len(), 1);
        let expected = "the fullest is public.x in a, 80 % used; 3 not visible to this role: grant pg_read_all_data";
        assert_eq!(verdict.summary, expected);
        let none = monitor.verdict(&vec![row("b", "", 0.0, 0)], &mut (), &Baseline::default());
        assert_eq!((none.summary.as_str(), none.findings.len()), ("no sequence is used", 0));
    }
}
