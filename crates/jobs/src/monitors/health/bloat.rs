//! Tables that take much more space than their rows need (check_pgactivity: table_bloat; check_postgres: bloat): an
//! estimate, which maintenance confirms before it acts.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict, unseen},
};
use async_trait::async_trait;
use bytesize::ByteSize;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};

options! {
    /// Alerts when a table takes up much more space than its rows need, as estimated from its statistics.
    pub struct Bloat {
        /// Warns when at least this share of a table is waste, percent …
        warning_percent: f64 = "50.0";
        /// … and at least this much.
        minimum: ByteSize = "\"1GiB\"";
        /// Tables to ignore, as `schema.table`.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct BloatedTable {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    bytes: f64,
    wasted: f64,
    /// Tables of the database whose statistics the role may not read.
    unseen: i64,
}

#[async_trait]
impl Monitor for Bloat {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "53 5 * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity table_bloat, check_postgres bloat; the estimate is a new one",
        queries: &[Query {
            what: "estimate bloat",
            sql: concat!(include_str!("bloat_estimate.sql"), include_str!("bloat.sql")),
        }],
    };
    type Sample = Vec<(String, BloatedTable)>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.everywhere(&Self::FACTS.queries[0], &[]).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let wasted: f64 = sample.iter().map(|(_, table)| table.wasted).sum();
        let mut verdict = Verdict::of(format!("about {} of bloat in tables", human::size(wasted as u64)));
        verdict.measure(Metric::new("postgres_table_bloat_bytes", wasted));
        verdict.summary += &unseen(sample.iter().map(|(database, table)| (database, table.unseen)));
        let seen = sample.iter().filter(|(_, table)| !table.name.is_empty() && !self.ignore.contains(&table.name));
        for (database, BloatedTable { name, bytes, wasted, .. }) in seen {
            let object = format!("{name} in {database}");
            let percent = 100.0 * wasted / bytes.max(1.0);
            let severity = match *wasted >= self.minimum.as_u64() as f64 {
                true => baseline.above(&object, percent, self.warning_percent, f64::INFINITY),
                false => Severity::Ok,
            };
            let (wasted, all) = (human::size(*wasted as u64), human::size(*bytes as u64));
            verdict.find(
                Finding::new(severity, &object, format!("about {wasted} of {all} in {object} is waste ({percent:.0} %)"))
                    .meaning("Reading it takes longer, and so does backing it up.")
                    .advice("If vacuum keeps up, the space is reused. To give it back: pg_repack, or VACUUM FULL in a maintenance window, which locks the table."),
            );
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_waste_is_told_and_what_is_not_seen_is_said() {
        let monitor = Bloat { warning_percent: 50.0, minimum: ByteSize::gib(1), ignore: vec!["public.known".into()] };
        let gib = (1_u64 << 30) as f64;
        let row = |database: &str, name: &str, bytes, wasted, unseen| {
            (database.to_owned(), BloatedTable { name: name.into(), bytes: bytes * gib, wasted: wasted * gib, unseen })
        };
        let sample = vec![
            row("a", "public.wide", 4.0, 3.0, 2),
            row("a", "public.small", 1.0, 0.9, 2),
            row("a", "public.known", 4.0, 3.0, 2),
            row("b", "", 0.0, 0.0, 1),
        ];
        let verdict = monitor.verdict(&sample, &mut (), &Baseline::default());
        let objects: Vec<_> = verdict.findings.iter().map(|finding| finding.object.as_str()).collect();
        assert_eq!(objects, ["public.wide in a"]);
        assert!(verdict.summary.ends_with("; 3 not visible to this role: grant pg_read_all_data"));
    }
}
